defmodule Cybernetic.WASM.Sandbox.Capabilities.Env do
  @moduledoc """
  Environment variables: option `env:` of `Cybernetic.WASM.Sandbox.new/1`. Default: `false`, none.

    * a map, or a keyword list, of names and values: `%{"LANG" => "C"}`
    * a list of names, `["LANG", "TZ"]`. Their values are the VM's own when the call is made. A
      name that is not set there is left out.
    * a list of both: `["LANG", {"MODE", "batch"}]`
    * `:any`, alone or in a list - all that the call itself gives as `env:`, whatever the name.
      Nothing of the VM's.

  A variable that a call gives as `env:` must be granted by `:any` or by its name. If the grant has
  a value for the name, it must be the same value. All names and values together take at most
  131,072 bytes.

  ## Secrets

  A name whose value would be the VM's own is refused with an `ArgumentError` if it looks like a
  secret's. `{:secret, "NAME"}` in the list grants it all the same. There are no patterns: each
  name is granted by itself.

  A name is read in capitals, cut into words at everything but letters and digits, and digits at
  the end of a word do not count. It looks like a secret's if one of its words

    * is AUTH, AUTHORIZATION, BEARER, COOKIE, COOKIES, CREDS, DSN, JWT, PAT, PRIVATE, PWD, SALT,
      SESSION
    * or ends in CREDENTIAL, KEY, PASS, PASSPHRASE, PASSWD, PASSWORD, SECRET, TOKEN, or in one of these with an S

  or if the name contains one of AMQP_URL, DATABASE_URI, DATABASE_URL, DB_URI, DB_URL, ELIXIR_ERL_OPTIONS, ERL_FLAGS,
  HTTPS_PROXY, HTTP_PROXY, MONGODB_URI, MONGODB_URL, MONGO_URI, MONGO_URL, MYSQL_URL, PGPASSFILE, POSTGRESQL_URL,
  POSTGRES_URL, RABBITMQ_URL, REDISCLOUD_URL, REDIS_URL, WEBHOOK_URL. The shell's directories, PWD and OLDPWD, do not.

  Values are never shown: not by `inspect/1`, not by `Cybernetic.WASM.Sandbox.explain/1`, not in
  an error. Narrowing keeps the variables that both grant with the same value, or both from the VM.
  """

  use Cybernetic.WASM.Sandbox.Capability
  import Cybernetic.WASM.Sandbox.Manifest.Tree

  alias Cybernetic.WASM.DeniedError
  alias Cybernetic.WASM.Sandbox.Capabilities.Env.{Secrets, Variables}

  defstruct vars: %{}, explicit: false

  @typedoc "The variables that a guest may see. Its fields are private: they hold the values."
  @type t :: %__MODULE__{vars: Variables.t(), explicit: boolean}

  @variable [{"name", :name}, {"value", :value}, {"secret", :secret}]
  @variable_name "a variable's name, one that looks like a secret's as { name = …, secret = true }"

  @doc "Whether a variable of this name is taken for a secret."
  @spec secret?(String.t()) :: boolean
  defdelegate secret?(name), to: Secrets, as: :name?

  @impl true
  def default, do: %__MODULE__{}

  @impl true
  def grant(false), do: {:ok, %__MODULE__{}}
  def grant(:any), do: {:ok, %__MODULE__{explicit: true}}

  def grant(list) when is_list(list) and length(list) >= 0 do
    {any, vars} = Enum.split_with(list, &(&1 == :any))
    with {:ok, vars} <- Variables.listed(vars), do: together(vars, any != [])
  end

  def grant(map) when is_map(map) and not is_struct(map) do
    with {:ok, vars} <- Variables.given(map), do: together(vars, false)
  end

  def grant(_other), do: Variables.wrong()

  defp together(vars, explicit) do
    with {:ok, _values} <-
           Variables.bounded(for {name, source} <- vars, do: {name, known(source)}),
         do: {:ok, %__MODULE__{vars: vars, explicit: explicit}}
  end

  defp known({:value, value}), do: value
  defp known(_source), do: ""

  @impl true
  def keys, do: [:env]

  # Values may be secrets: no mistake shows one.
  @impl true
  def manifest([{:env, {:boolean, _line, false}, _at}]), do: false
  def manifest([{:env, {:string, _line, "any"}, _at}]), do: :any

  def manifest([{:env, {:array, _line, _items} = node, at}]),
    do: fitting(for({node, at} <- items(node, at), do: stated(node, at)), at)

  def manifest([{:env, {:table, _line, entries}, at}]) do
    fitting(
      for({name, line, node} <- entries, do: stated_value(name, node, inside(at, name, line))),
      at
    )
  end

  def manifest([{:env, node, at}]),
    do: refuse(node, at, ~S|false, "any" or a list such as ["LANG"]|)

  defp fitting(variables, at),
    do: option(variables, &grant/1, {{:array, at.line, []}, at}, "variables that fit together")

  defp stated({:string, _line, name} = node, at), do: stated_name(name, node, at)

  defp stated({:table, _line, _entries} = node, at) do
    %{name: {name_node, name_at}} = parts = parts(node, at, @variable, [:name])
    name = text(name_node, name_at, @variable_name)

    case parts do
      %{value: _, secret: _} ->
        refuse(node, at, "either a value or secret = true")

      %{value: {value, at}} ->
        stated_value(name, value, at)

      %{secret: {secret, at}} ->
        stated_name(secret(name, boolean(secret, at)), name_node, name_at)

      _ ->
        stated_name(name, name_node, name_at)
    end
  end

  defp stated(node, at), do: mistake(at, @variable_name, kind(node))

  defp secret(name, true), do: {:secret, name}
  defp secret(name, false), do: name

  defp stated_name(variable, {:string, _line, name}, at),
    do: option(variable, &Variables.variable/1, {before_value(name, at), at}, @variable_name)

  defp stated_value(name, {:string, _line, value}, at) do
    expected = "a variable's name and value without zero bytes, the name without ="
    option({name, value}, &Variables.variable/1, {before_value(name, at), at}, expected)
  end

  defp stated_value(_name, node, at), do: mistake(at, "a variable's value, a text", kind(node))

  # Behind an = there is a value in the wrong place.
  defp before_value(name, at), do: {:string, at.line, name |> String.split("=") |> hd()}

  @impl true
  def suggestion do
    """
    # It reads environment variables. ["LANG"] would be the VM's own; "any" are those that a call gives.
    env = "any"
    """
  end

  @impl true
  def narrow(%__MODULE__{} = env, %__MODULE__{} = other) do
    %__MODULE__{
      vars: Map.filter(env.vars, fn {name, source} -> other.vars[name] == source end),
      explicit: env.explicit and other.explicit
    }
  end

  @impl true
  def granted?(env), do: env != %__MODULE__{}

  @impl true
  def explain(env) do
    vars = for {name, source} <- Enum.sort(env.vars), do: "#{visible(name)} (#{words(source)})"
    any = if env.explicit, do: ["what the call gives"], else: []
    Enum.join(vars ++ any, ", ")
  end

  defp visible(name), do: Cybernetic.WASM.Shown.name(name)
  defp words({:value, _value}), do: "a value"
  defp words(:vm), do: "the VM's"
  defp words(:secret), do: "the VM's, a secret"

  # What nearly all calls come to.
  @impl true
  def native(%__MODULE__{vars: vars}, data) when vars == %{} and not is_map_key(data, :env),
    do: {:ok, %{env: []}}

  def native(env, data) do
    case values(env, data[:env]) do
      {:ok, values} -> {:ok, %{env: values}}
      {:refused, names} -> {:error, ungranted(names)}
    end
  end

  defp ungranted(names) do
    %DeniedError{
      capability: :env,
      denied: "the call gives #{Enum.map_join(names, ", ", &visible/1)}",
      grant: "add the names, or env: :any"
    }
  end

  @impl true
  def functions, do: ~w(environ_get environ_sizes_get)

  @impl true
  def interfaces, do: [{"wasi:cli/environment#get-environment", :empty}]

  @impl true
  def hint, do: ~s|add env: ["NAME"], or env: :any for what the call gives|

  # A guest that is refused its environment ends itself; one without variables goes on.
  @impl true
  def effect, do: :empty

  @doc false
  # The environment of a call that gives `given`, or the names in it that are not granted.
  @spec values(t, map | keyword | nil) :: {:ok, [{String.t(), binary}]} | {:refused, [String.t()]}
  def values(%__MODULE__{} = env, given) do
    given = unwrap!(Variables.given(given || %{}))

    case for {name, source} <- given, not gives?(env, name, source), do: name do
      [] -> {:ok, env.vars |> Map.merge(given) |> values() |> Variables.bounded() |> unwrap!()}
      refused -> {:refused, Enum.sort(refused)}
    end
  end

  defp values(vars), do: vars |> Enum.sort() |> Enum.flat_map(&value/1)

  defp gives?(%{explicit: true}, _name, _source), do: true
  defp gives?(env, name, source), do: Map.get(env.vars, name) in [:vm, :secret, source]

  defp value({name, {:value, value}}), do: [{name, value}]
  defp value({name, _vm}), do: for(value <- List.wrap(System.get_env(name)), do: {name, value})

  defimpl Inspect do
    alias Cybernetic.WASM.Sandbox.Capabilities.Env

    def inspect(env, _opts) do
      words = if Env.granted?(env), do: Env.explain(env), else: "nothing"
      "#Cybernetic.WASM.Sandbox.Env<#{words}; values redacted>"
    end
  end
end
