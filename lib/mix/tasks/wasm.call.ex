defmodule Mix.Tasks.Wasm.Call do
  @shortdoc "Calls a function of a WebAssembly module or component"

  @moduledoc """
  Calls an exported function of a WebAssembly module, within limits, and prints what it returns.

      mix wasm.call FILE FUNCTION [ARG...] [options]

  FILE is in the binary or the text format; `-` is standard input. Without FUNCTION the exported
  functions are listed. The function runs in a fresh instance, which is granted nothing but what is
  asked for here: no files, no network, no host functions. A module that imports functions has to be
  called from Elixir, with the option `:imports` of `Cybernetic.WASM.Executor.call/4`, or with
  `--unknown-imports trap` where the function does not need them. The one that
  AssemblyScript's modules import, `env.abort`, is there: it stops the guest with its message.

  ## Arguments

  Each is read by the type of its parameter:

  | type | written as |
  |---|---|
  | `i32`, `i64` | `42`, `-5`, `0xFF`, `1_000_000`; signed or unsigned |
  | `f32`, `f64` | `1.5`, `-3`, `1e-3`, `inf`, `-inf`, `nan`, `nan:0x1` (with a payload) |
  | `v128` | `0x` and up to 32 hexadecimal digits, the last of which are the first lane |
  | references | `null` |

  There are no others: text is passed through a module's memory, which takes Elixir (guides/text.md).

  A component's function takes text and more: it is called as in Elixir, by its name and that of its interface, and its arguments are
  written in [WAVE](https://docs.rs/wasm-wave):

  | type | written as |
  |---|---|
  | `bool`, integers, floats | `true`, `42`, `1.5`, `inf`, `nan` |
  | `string`, `char`, `list<u8>` | as they are; within another value `"tea"`, `'x'`, `[1, 2]` |
  | `list`, `tuple`, `record` | `[1, 2]`, `(1, "a")`, `{item: "tea", count: 2}` |
  | `variant`, `enum`, `flags` | `empty`, `sold-out("tea")`, `{read, write}` |
  | `option`, `result` | `none`, `some(1)`, `ok(1)`, `err("no")`, `ok` |

  Results are written in the same way, each on a line; integers are signed. A function without results
  prints nothing. A negative number is never taken for an option; after `--` nothing is.

  ## Options

    * `--fuel N` - units of fuel, about one per instruction. Default: 1,000,000,000
    * `--timeout N` - milliseconds. Default: 5,000
    * `--max-memory N` - bytes of all memories and tables, also as `64K`, `16M` or `1G` (of 1024).
      Default: 100,000,000
    * `--unknown-imports trap` - the guest runs, and traps when it calls a function that it imports.
      Default: `refuse`, before anything runs
    * `--usage` - also prints what the call used, to standard error; also after a trap or limit
    * `--wasi` - grants WASI to a library that imports it: the standard streams, the clock and random
      bytes, and nothing else
    * `--dir`, `--scratch`, `--null`, `--env`, `--random-seed`, `--clock` - grant WASI with what they name, as in
      `mix help wasm.run`
    * `--manifest PATH` - what the guest may use instead of all that: see
      `Cybernetic.WASM.Sandbox.Manifest`. Options then only narrow it.
    * `--json` - prints one JSON object: `result` or `error`, and `usage` if asked for. Several results
      are a list and none is `null`; what no JSON number holds is a string: `"nan"`, `"inf"`, a `v128`. Of a
      component a case with a value is an object, `{"ok": 1}`, and `none` is `null`.
    * `--help`

  What is not given is as configured: see `Cybernetic.WASM.Config`.

  ## Exit status

    * 0 - the function returned
    * 1 - the guest failed: it trapped, or a limit stopped it
    * 2 - the mistake is on the command line: an unknown option, no such file, not a module, no such
      function, wrong arguments, imports

  The result goes to standard output and messages to standard error, but with `--json` errors are on
  standard output, too.

  ## Examples

      $ mix wasm.call priv/wasm/compute.wasm div_mod -7 2
      -3
      -1

      $ mix wasm.call priv/wasm/compute.wasm process 42 --json --usage
      {"result":84,"usage":{"fuel":4,"peak_memory":65536,"wall_time":205.648,"slice_time":201.442,"slices":1,"host_calls":0}}

      $ mix wasm.call priv/wasm/greeter.wasm greet Ada
      Hello, Ada!

      $ mix wasm.call priv/wasm/greeter.wasm acme:shop/orders#place '[{item: "tea", count: 2}]'
      ok({number: 1, total: 2, gift: false})

      $ mix wasm.call priv/wasm/compute.wasm spin --fuel 1_000_000
      mix wasm.call: the fuel limit was reached: 1,000,000 units of fuel allowed, all used (to raise: --fuel)
      $ echo $?
      1
  """

  use Mix.Task

  alias Cybernetic.WASM.{CallError, Component, DeniedError, Executor, JSON, Module, Runtime}
  alias Cybernetic.WASM.Component.Words
  alias Cybernetic.WASM.Sandbox.Manifest

  alias Mix.Tasks.Wasm.{
    AssemblyScript,
    CommandLine,
    GrantOptions,
    ImportOptions,
    LimitOptions,
    TextFormat,
    UsageReport,
    Wave
  }

  @task "wasm.call"
  @usage "FILE FUNCTION [ARG...] [--fuel N] [--timeout N] [--max-memory N] [--wasi] [--dir HOST::GUEST[:ro]] " <>
           "[--scratch GUEST] [--null] [--env NAME[=VALUE]] [--random-seed N] [--clock fixed:N] [--manifest PATH] " <>
           "[--unknown-imports trap] [--usage] [--json]"
  @switches LimitOptions.switches() ++
              GrantOptions.switches() ++
              ImportOptions.switches() ++ [wasi: :boolean, usage: :boolean, json: :boolean]

  # As many as the library itself names in this error.
  @most_named 20

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, @switches) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> run(parsed, argv)
    end
  end

  defp run(parsed, argv) do
    with {:ok, options, words} <- parsed,
         {:ok, limits} <- LimitOptions.read(options),
         {:ok, results, usage} <- call(words, limits, options) do
      print(results, usage, options)
    else
      {:error, error} -> fail(error, argv)
    end
  end

  defp call([], _limits, _options),
    do: CommandLine.usage_error("FILE is missing\nusage: mix #{@task} #{@usage}")

  defp call([file | words], limits, options) do
    metering = LimitOptions.metering(limits)

    with {:ok, unknown} <- ImportOptions.read(options),
         :ok <- CommandLine.start(),
         {:ok, manifest} <- GrantOptions.manifest(options, []),
         {:ok, grants} <- grants(options, manifest, limits),
         {:ok, module} <- CommandLine.load(file, metering),
         :ok <- if(manifest, do: Manifest.check(manifest, module), else: :ok),
         {:ok, function, words} <- function(words, module) do
      imports = AssemblyScript.imports(module)
      opts = if imports == %{}, do: grants, else: [imports: imports] ++ grants
      opts = opts ++ unknown
      with_scratch(grants[:sandbox], fn -> invoke(module, function, words, opts ++ metering) end)
    end
  end

  # WASI is granted where something of it is asked for.
  defp grants(options, manifest, limits) do
    with {:ok, asked} <- GrantOptions.read(options),
         {:ok, env} <- GrantOptions.environment(options) do
      if manifest || options[:wasi] || options[:env] || asked != [] do
        with {:ok, sandbox} <- GrantOptions.sandbox(manifest, asked, limits),
             do: {:ok, [sandbox: sandbox] ++ if(env == %{}, do: [], else: [env: env])}
      else
        with {:ok, sandbox} <- CommandLine.sandbox(limits), do: {:ok, [sandbox: sandbox]}
      end
    end
  end

  # The library removes a guest's own directory in the background, for which there is no time when the node ends.
  defp with_scratch(sandbox, function) do
    function.()
  after
    if sandbox.filesystem.scratch || sandbox.filesystem.null, do: Runtime.stop()
  end

  defp invoke(module, function, words, opts) do
    with {:ok, params, results} <- signature(module, function, length(words)),
         {:ok, args} <- arguments(words, params),
         {:ok, run} <-
           module |> run(function, args, opts) |> in_words() |> in_range(words, params) do
      {:ok, run.result |> list(results) |> Enum.zip(results), run.usage}
    end
  end

  # What the sandbox does not take, of the environment for example, is a mistake of the command line.
  defp run(module, function, args, opts) do
    Executor.run(module, function, args, opts)
  rescue
    error in ArgumentError -> CommandLine.usage_error(Exception.message(error))
  end

  # What it needs is no option of this task.
  defp in_words({:error, %DeniedError{capability: :wasi}}) do
    CommandLine.usage_error(
      "it imports WASI, which is granted with --wasi, --dir and the like, or with --manifest " <>
        "(mix wasm.run FILE runs a program)"
    )
  end

  defp in_words(result), do: result

  defp list(nil, []), do: []
  defp list(result, [_]), do: [result]
  defp list(results, _several), do: results

  # Functions

  defp function([function | words], _module), do: {:ok, function, words}

  defp function([], module) do
    case functions(module) do
      [] -> CommandLine.usage_error("FUNCTION is missing, and the module exports none")
      functions -> CommandLine.usage_error("FUNCTION is missing; exported are:#{functions}")
    end
  end

  defp functions(%Component{} = component) do
    for %{type: {:func, _params, _result}} = item <- Component.exports(component),
        do: "\n  #{TextFormat.plain(Component.path(item))}: #{Words.item(item)}"
  end

  defp functions(module) do
    for %{name: name, type: {:function, _, _} = type} <- Module.exports(module),
        do: "\n  #{TextFormat.name(name)} #{TextFormat.type(type)}"
  end

  defp signature(%Component{} = component, function, given) do
    case Component.type(component, function) do
      {:ok, {:func, params, result}} when length(params) == given ->
        results = if result, do: [{:wit, result}], else: []
        {:ok, for({_name, type} <- params, do: {:wit, type}), results}

      {:ok, {:func, params, _result} = type} ->
        call_error(
          reason: :arity,
          expected: length(params),
          given: given,
          signature: Words.declaration(type)
        )

      {:ok, type} ->
        call_error(
          reason: :wrong_export_kind,
          export: function,
          given: if(is_tuple(type), do: elem(type, 0), else: type) |> to_string(),
          expected: "function"
        )

      {:error, error} ->
        {:error, error}
    end
  end

  defp signature(module, function, given) do
    exports = Module.exports(module)

    case Enum.find(exports, &(&1.name == function)) do
      %{type: {:function, params, results}} when length(params) == given ->
        {:ok, params, results}

      %{type: {:function, params, _results} = type} ->
        call_error(
          reason: :arity,
          expected: length(params),
          given: given,
          signature: TextFormat.type(type)
        )

      %{type: type} ->
        kind = type |> elem(0) |> to_string()

        call_error(
          reason: :wrong_export_kind,
          export: function,
          given: kind,
          expected: "function"
        )

      nil ->
        known = for %{name: name, type: {:function, _, _}} <- exports, do: name

        call_error(
          reason: :no_such_export,
          export: function,
          known: Enum.take(known, @most_named)
        )
    end
  end

  defp call_error(facts), do: {:error, struct!(CallError, facts)}

  # Arguments. A component's types are tagged: the words for them are others.

  defp arguments(words, params) do
    values = Enum.zip_with(words, params, &read/2)

    case Enum.find_index(values, &(not match?({:ok, _value}, &1))) do
      nil -> {:ok, for({:ok, value} <- values, do: value)}
      index -> wrong(index, words, params, Enum.at(values, index))
    end
  end

  defp read(word, {:wit, type}), do: Wave.read(word, type)
  defp read(word, type), do: TextFormat.read(word, type)

  # What is out of range the library refuses, and speaks of Elixir terms; of a component's it says where.
  defp in_range({:error, %CallError{reason: :type, index: index, path: nil}}, words, params),
    do: wrong(index, words, params, :error)

  defp in_range(result, _words, _params), do: result

  defp wrong(index, words, params, why) do
    expected =
      case {Enum.at(params, index), why} do
        {{:wit, type}, {:error, where}} -> "#{Words.type(type)} (#{where})"
        {{:wit, type}, _unknown} -> Words.type(type)
        {type, _unknown} -> TextFormat.expected(type)
      end

    call_error(reason: :type, index: index, expected: expected, given: Enum.at(words, index))
  end

  # Printing

  defp print(results, usage, %{json: true} = options) do
    usage = if options[:usage], do: [usage: UsageReport.fields(usage)], else: []
    CommandLine.print(JSON.encode([result: json(results)] ++ usage))
  end

  defp print(results, usage, options) do
    Enum.each(results, &(&1 |> write() |> CommandLine.print()))
    if options[:usage], do: UsageReport.print(usage)
  end

  defp json([]), do: nil
  defp json([result]), do: json_value(result)
  defp json(results), do: Enum.map(results, &json_value/1)

  defp json_value({value, {:wit, type}}), do: Wave.json(value, type)
  defp json_value({value, _type}) when is_number(value) or is_nil(value), do: value
  defp json_value({value, _type}), do: TextFormat.write(value)

  defp write({value, {:wit, type}}), do: Wave.write(value, type)
  defp write({value, _type}), do: TextFormat.write(value)

  @spec fail(CommandLine.error(), [String.t()]) :: no_return
  defp fail(error, argv) do
    json? = CommandLine.asked?(argv, "--json")
    usage = if CommandLine.asked?(argv, "--usage"), do: Map.get(error, :usage)

    if usage && not json?, do: UsageReport.print(usage)
    more = if usage, do: [usage: UsageReport.fields(usage)], else: []
    CommandLine.stop(error, @task, json: json?, more: more)
  end
end
