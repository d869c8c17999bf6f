defmodule Cybernetic.WASM.Sandbox.Capabilities.Env do
  @moduledoc """
  Environment variables: option `env:` of `Cybernetic.WASM.Sandbox.new/1`. Default: `false`, none.

    * a map, or a keyword list, of names and values: `%{"LANG" => "C"}`
    * a list of names, `["LANG", "TZ"]`, whose values are the VM's own when the call is made; a
      name that is not set there is left out
    * a list of both: `["LANG", {"MODE", "batch"}]`
    * `:any`, alone or in a list - what the call itself gives as `env:`, whatever the name.
      Nothing of the VM's.

  What a call gives as `env:` must be granted: by `:any`, or by its name, unless the grant has
  another value with it. All names and values together take at most 131,072 bytes.

  ## Secrets

  A name whose value would be the VM's own is refused with an `ArgumentError` if it looks like a
  secret's. `{:secret, "NAME"}` in the list grants it all the same. There are no patterns: each
  name is granted by itself. A name looks like a secret's if, in capitals and cut at everything
  but letters and digits, one of its words

    * is, but for digits at its end, AUTH, AUTHORIZATION, BEARER, COOKIE, COOKIES, CREDS, DSN, JWT, PAT, PRIVATE, PWD, SALT,
      SESSION
    * or so ends in CREDENTIAL, KEY, PASS, PASSPHRASE, PASSWD, PASSWORD, SECRET, TOKEN, or in one of these with an S

  or if one of these is in the name: AMQP_URL, DATABASE_URI, DATABASE_URL, DB_URI, DB_URL, ELIXIR_ERL_OPTIONS, ERL_FLAGS,
  HTTPS_PROXY, HTTP_PROXY, MONGODB_URI, MONGODB_URL, MONGO_URI, MONGO_URL, MYSQL_URL, PGPASSFILE, POSTGRESQL_URL,
  POSTGRES_URL, RABBITMQ_URL, REDISCLOUD_URL, REDIS_URL, WEBHOOK_URL. The shell's directories, PWD and OLDPWD, do not.

  Values are never shown: not by `inspect/1`, not by `Cybernetic.WASM.Sandbox.explain/1`, not in
  an error. Narrowing keeps a variable that both grant with the same value, or both from the VM.
  """

  use Cybernetic.WASM.Sandbox.Capability

  # `vars` by name: `{:value, text}`, or `:vm` and `:secret` for what the VM has.
  defstruct vars: %{}, explicit: false

  @typedoc "What of an environment a guest may see. Its fields are private: they hold the values."
  @type t :: %__MODULE__{vars: %{String.t() => source}, explicit: boolean}

  @typep source :: {:value, String.t()} | :vm | :secret

  @words ~w(AUTH AUTHORIZATION BEARER COOKIE COOKIES CREDS DSN JWT PAT PRIVATE PWD SALT SESSION)
  @endings for word <- ~w(CREDENTIAL KEY PASS PASSPHRASE PASSWD PASSWORD SECRET TOKEN),
               plural <- ["", "S"],
               do: word <> plural
  @names ~w(AMQP_URL DATABASE_URI DATABASE_URL DB_URI DB_URL ELIXIR_ERL_OPTIONS ERL_FLAGS HTTPS_PROXY
            HTTP_PROXY MONGODB_URI MONGODB_URL MONGO_URI MONGO_URL MYSQL_URL PGPASSFILE POSTGRESQL_URL
            POSTGRES_URL RABBITMQ_URL REDISCLOUD_URL REDIS_URL WEBHOOK_URL)
  @harmless ~w(PWD OLDPWD)
  @most 131_072

  @doc "Whether a variable of this name is taken for a secret."
  @spec secret?(String.t()) :: boolean
  def secret?(name) do
    name = String.upcase(name)
    name not in @harmless and (secret_words?(name) or secret_name?(name))
  end

  defp secret_words?(name) do
    name
    |> String.split(~r/[^A-Z0-9]+/)
    |> Enum.map(&String.replace(&1, ~r/[0-9]+$/, ""))
    |> Enum.any?(&(&1 in @words or String.ends_with?(&1, @endings)))
  end

  defp secret_name?(name), do: String.contains?(name, @names)

  @impl true
  def default, do: %__MODULE__{}

  @impl true
  def grant(false), do: {:ok, %__MODULE__{}}
  def grant(:any), do: {:ok, %__MODULE__{explicit: true}}

  def grant(list) when is_list(list) and length(list) >= 0 do
    {any, vars} = Enum.split_with(list, &(&1 == :any))

    with {:ok, vars} <- each(vars, &variable/1), do: together(vars, any != [])
  end

  def grant(map) when is_map(map) and not is_struct(map) do
    with {:ok, vars} <- explicit(map), do: together(vars, false)
  end

  def grant(_other), do: wrong()

  # No message here shows what was given but for a name: a secret may be in the wrong place.
  defp wrong do
    refused(
      "option :env must be false, :any, a map of names and values, or a list of names, " <>
        "{name, value} and {:secret, name} (what was given is not shown: it may be a secret)"
    )
  end

  defp variable({:secret, name}) when is_binary(name) do
    with {:ok, name} <- listed(name), do: {:ok, {name, if(secret?(name), do: :secret, else: :vm)}}
  end

  defp variable(name) when is_binary(name) do
    with {:ok, name} <- listed(name) do
      if secret?(name), do: unnamed_secret(name), else: {:ok, {name, :vm}}
    end
  end

  defp variable(other), do: with_value(other)

  defp listed(name) do
    with {:ok, name} <- name(name) do
      if String.contains?(name, ["*", "?"]),
        do: refused("option :env takes no patterns; give each name by itself"),
        else: {:ok, name}
    end
  end

  defp unnamed_secret(name) do
    refused(
      "option :env: #{name} looks like a secret's name; to grant it all the same, give " <>
        "{:secret, #{inspect(name)}}"
    )
  end

  defp explicit(vars) when is_map(vars) and not is_struct(vars),
    do: vars |> Map.to_list() |> explicit()

  defp explicit(vars) when is_list(vars) and length(vars) >= 0, do: each(vars, &with_value/1)
  defp explicit(_other), do: wrong()

  defp with_value({name, value}) do
    with {:ok, name} <- name(name), {:ok, value} <- value(name, value) do
      {:ok, {name, {:value, value}}}
    end
  end

  defp with_value(_other), do: wrong()

  defp name(name) when is_atom(name) and name not in [nil, true, false],
    do: name |> Atom.to_string() |> name()

  defp name(name) do
    cond do
      not is_binary(name) or not String.valid?(name) -> wrong()
      name == "" -> refused("option :env: a name must not be empty")
      # What stands behind the = is a value.
      name =~ ~r/[=\0]/ -> refused("option :env: a name must not hold = or NUL")
      true -> {:ok, name}
    end
  end

  defp value(name, value) do
    if is_binary(value) and String.valid?(value) and not String.contains?(value, "\0"),
      do: {:ok, value},
      else: refused("option :env: the value of #{name} must be UTF-8 text without NUL")
  end

  defp together(vars, explicit) do
    with {:ok, vars} <- once(vars),
         {:ok, _values} <- bounded(for {name, source} <- vars, do: {name, known(source)}),
         do: {:ok, %__MODULE__{vars: vars, explicit: explicit}}
  end

  defp once(vars) do
    map = Map.new(vars)

    case Enum.map(vars, &elem(&1, 0)) -- Map.keys(map) do
      [] -> {:ok, map}
      [name | _] -> refused("option :env names #{name} twice")
    end
  end

  defp known({:value, value}), do: value
  defp known(_source), do: ""

  # A name and a value with the = between them and the NUL behind, as a guest's memory holds them.
  defp bounded(values) do
    size = Enum.sum(for {name, value} <- values, do: byte_size(name) + byte_size(value) + 2)

    if size > @most,
      do: refused("option :env takes #{size} bytes, at most #{@most} are allowed"),
      else: {:ok, values}
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
    vars = for {name, source} <- Enum.sort(env.vars), do: "#{shown(name)} (#{words(source)})"
    any = if env.explicit, do: ["what the call gives"], else: []
    Enum.join(vars ++ any, ", ")
  end

  defp shown(name), do: Cybernetic.WASM.Shown.name(name)
  defp words({:value, _value}), do: "a value"
  defp words(:vm), do: "the VM's"
  defp words(:secret), do: "the VM's, a secret"

  @impl true
  def functions, do: ~w(environ_get environ_sizes_get)

  @impl true
  def hint, do: ~s|add env: ["NAME"], or env: :any for what the call gives|

  # A guest that is refused its environment ends itself; one without variables goes on.
  @impl true
  def effect, do: :empty

  @doc false
  # The environment of one call that gives `given` itself, or its names that are not granted.
  @spec values(t, map | keyword | nil) :: {:ok, [{String.t(), binary}]} | {:refused, [String.t()]}
  def values(%__MODULE__{} = env, given) do
    given = unwrap!(with({:ok, vars} <- explicit(given || %{}), do: once(vars)))

    case for {name, source} <- given, not gives?(env, name, source), do: name do
      [] ->
        {:ok,
         env.vars
         |> Map.merge(given)
         |> Enum.sort()
         |> Enum.flat_map(&value/1)
         |> bounded()
         |> unwrap!()}

      refused ->
        {:refused, Enum.sort(refused)}
    end
  end

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
