defmodule Cybernetic.WASM.Plugin.Contracts.Extism do
  @moduledoc false
  # Plugins made for Extism. Rust serves what they import from `extism:host/env`, but for what it takes a host to answer: requests
  # and logs. What they import from elsewhere are functions of the embedder's.

  import Cybernetic.WASM.Sandbox.Check, only: [is_wasi: 1]

  alias Cybernetic.WASM.{ABI, Error, Options, Plugin}
  alias Cybernetic.WASM.Plugin.{Complaint, Surface}
  alias Cybernetic.WASM.Plugin.Contracts.Extism.{Functions, Requests}

  @behaviour Plugin.Contract

  @env "extism:host/env"
  @user "extism:host/user"
  # The numbers that a plugin knows them by.
  @levels [trace: 0, debug: 1, info: 2, warn: 3, error: 4]
  @logs for {level, _number} <- @levels, into: %{}, do: {"log_#{level}", level}
  @wasi [wasi: true, clocks: :real, random: :system, stdio: :captured]

  @options [
    config: {:unshown, {"a map of texts", &__MODULE__.config?/1}},
    functions: {"a map of names and functions", &__MODULE__.functions?/1},
    log: {"a function of two arguments, or nil", &__MODULE__.log?/1},
    log_level: {:one_of, Keyword.keys(@levels)},
    max_vars: :count,
    http: {:unshown, {"a keyword list", &Keyword.keyword?/1}}
  ]
  @defaults %{
    config: %{},
    functions: %{},
    log: nil,
    log_level: :info,
    max_vars: 1_048_576,
    http: []
  }
  # Of a plugin that nobody listens to.
  @off 5

  @impl true
  def prepare(surface, opts) do
    opts = Map.merge(@defaults, Options.check!(opts, @options, "option of the contract :extism"))

    if surface.kind == :module and Enum.any?(surface.imports, &match?({@env, _name}, &1)),
      do: {:ok, "it imports from #{@env}", state(surface, opts)},
      else: {:missing, ["an import from #{inspect(@env)}"]}
  end

  defp state(surface, opts) do
    level = if opts.log, do: Keyword.fetch!(@levels, opts.log_level), else: @off
    abi = ABI.extism(Enum.to_list(opts.config), level, opts.max_vars)
    own = %{@env => env(surface, opts), @user => Functions.imports(opts.functions)}
    imports = Map.merge(Complaint.of_abort(surface), own)
    sandbox = if wasi?(surface), do: [sandbox: @wasi], else: []
    %{options: [abi: abi, imports: imports] ++ sandbox, surface: surface}
  end

  defp wasi?(surface), do: Enum.any?(surface.imports, fn {module, _name} -> is_wasi(module) end)

  defp env(surface, opts) do
    for {@env, name} <- surface.imports, into: %{}, do: {name, served(name, opts)}
  end

  defp served("http_request", opts), do: Requests.function(opts.http)
  defp served(name, opts) when is_map_key(@logs, name), do: log(@logs[name], opts.log)
  defp served(_name, _opts), do: {&kernel/2, args: :list}

  # Rust answers these, and never asks here.
  @spec kernel(term, [integer]) :: no_return
  defp kernel(_ctx, args), do: raise(ArgumentError, "the kernel was to answer #{inspect(args)}")

  defp log(_level, nil), do: {fn _ctx, _args -> nil end, args: :list}

  defp log(level, log) do
    fn ctx, offset ->
      text = ctx |> Plugin.Extism.read(offset) |> Error.unwrap!()
      log.(level, text)
    end
  end

  @doc false
  def config?(config), do: texts?(config, &(is_binary(&1) and String.valid?(&1)))

  @doc false
  def log?(log), do: log == nil or is_function(log, 2)

  @doc false
  def functions?(functions), do: texts?(functions, &is_function/1)

  defp texts?(map, value?) do
    is_map(map) and not is_struct(map) and
      Enum.all?(map, fn {key, value} ->
        is_binary(key) and String.valid?(key) and value?.(value)
      end)
  end

  @impl true
  def entry(state) do
    Surface.only(state.surface, {[], ["i32"]})
  end

  @impl true
  def options(state), do: state.options

  @impl true
  def request(_function, input, encode, _state),
    do: with({:ok, bytes} <- encode.(input), do: {:ok, [{:input, bytes}]})

  @impl true
  def response(_function, run, decode, _state), do: decode.(run.result)

  @impl true
  def failure(error, _state), do: Complaint.of(error)
end
