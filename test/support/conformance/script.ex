defmodule Cybernetic.WASM.Conformance.Script do
  @moduledoc false
  # One script: all of its modules live in the store of one instance. What commands come to is told, not raised, and the
  # script goes on whatever fails on the way.

  import Bitwise

  alias Cybernetic.WASM.Conformance.{Pattern, Spectest}
  alias Cybernetic.WASM.{Instance, LimitError, LinkError, LoadError, Runtime, TrapError}

  # `load` and `own` are the options of a load and of an instance, `tally` counts host calls and signs of NaNs.
  defstruct [
    :base,
    :current,
    :load,
    :own,
    :tally,
    named: %{},
    registered: %{},
    definitions: %{}
  ]

  # The defaults but for what the scripts need more of: some copy 4 GiB, which counts before it traps, and some have
  # hundreds of modules. No slot of a pool has that much memory, so each guest is allocated on demand, and every module can
  # join it.
  @limits [
    fuel: 1_000_000_000_000,
    max_memory: 1 <<< 44,
    max_instances: 10_000,
    timeout: 600_000
  ]

  @load [:metering, :deterministic]

  @doc "Runs a script to its end, with options of a load or a call: the outcome of each command, and two counts."
  def run(%{"script" => name, "commands" => commands}, opts \\ []) do
    script = start(opts)
    {commands, _script} = Enum.map_reduce(commands, script, &step/2)
    :ok = Instance.close(script.base)
    {host_calls, signs} = {:counters.get(script.tally, 1), :counters.get(script.tally, 2)}
    %{script: name, commands: commands, host_calls: host_calls, signs: signs}
  end

  defp start(opts) do
    {load, call} = Keyword.split(opts, @load)
    # Where epochs meter there is no fuel.
    limits = if load[:metering] == :epoch, do: Keyword.delete(@limits, :fuel), else: @limits
    tally = :counters.new(2, [])
    own = [data: tally] ++ Keyword.merge(limits, call)
    base = Spectest.base(load, own)
    %__MODULE__{base: base, current: base, load: load, own: own, tally: tally}
  end

  defp step(%{"line" => line, "type" => kind} = command, script) do
    {failure, script} =
      case attempt(command, script) do
        {:ok, script} -> {nil, script}
        {:error, error} -> {shown(error), script}
      end

    {%{line: line, kind: kind, failure: failure}, script}
  end

  defp attempt(command, script) do
    carry_out(command, script)
  catch
    kind, reason -> {:error, Exception.format(kind, reason, __STACKTRACE__)}
  end

  # Modules

  defp carry_out(%{"type" => "module"} = command, script) do
    with {:ok, module} <- load(command["bytes"], script),
         do: join(module, command["name"], script)
  end

  defp carry_out(%{"type" => "module_definition"} = command, script) do
    with {:ok, module} <- load(command["bytes"], script),
         do: {:ok, put_in(script.definitions[command["name"]], module)}
  end

  defp carry_out(%{"type" => "module_instance"} = command, script) do
    with {:ok, module} <- named(script.definitions, command["module"]),
         do: join(module, command["instance"], script)
  end

  defp carry_out(%{"type" => "register", "as" => name} = command, script) do
    with {:ok, instance} <- find(command["name"], script),
         do: {:ok, put_in(script.registered[name], instance)}
  end

  defp carry_out(%{"type" => "action", "action" => action}, script) do
    with {:ok, _result} <- act(action, script), do: {:ok, script}
  end

  defp carry_out(%{"type" => "assert_" <> _} = command, script) do
    with :ok <- check(command, script), do: {:ok, script}
  end

  defp carry_out(%{"type" => "unconvertible", "error" => error}, _script), do: {:error, error}
  defp carry_out(_other, _script), do: {:error, "not a command for a core module"}

  defp load(bytes, script), do: Runtime.load_module({:bytes, bytes}, script.load)

  defp join(module, name, script) do
    with {:ok, instance} <- link(module, script) do
      named = if name, do: Map.put(script.named, name, instance), else: script.named
      {:ok, %{script | current: instance, named: named}}
    end
  end

  defp link(module, %{base: base} = script) do
    imports = Spectest.imports(base) ++ [script.registered]
    Instance.new(module, [store: base, imports: imports] ++ script.own)
  end

  defp find(nil, script), do: {:ok, script.current}
  defp find(name, script), do: named(script.named, name)

  defp named(things, name) do
    with :error <- Map.fetch(things, name), do: {:error, "there is no #{inspect(name)}"}
  end

  # Assertions

  defp check(%{"type" => "assert_return", "action" => action, "expected" => patterns}, script) do
    outcome = act(action, script)

    with :ok <- expect(outcome, patterns, &returned?(&1, patterns)),
         do: check_sign(action, Pattern.bits(patterns), script)
  end

  defp check(%{"type" => "assert_trap", "action" => action, "text" => text}, script),
    do: action |> act(script) |> expect_trap(text)

  defp check(%{"type" => "assert_uninstantiable", "text" => text} = command, script) do
    with {:ok, module} <- load(command["bytes"], script),
         do: module |> link(script) |> expect_trap(text)
  end

  defp check(%{"type" => "assert_exhaustion", "action" => action, "text" => text}, script),
    do: action |> act(script) |> expect(text, &match?({:error, %LimitError{limit: :stack}}, &1))

  defp check(%{"type" => "assert_exception", "action" => action}, script) do
    action
    |> act(script)
    |> expect("an exception", &match?({:error, %TrapError{code: :uncaught_exception}}, &1))
  end

  defp check(%{"type" => "assert_unlinkable", "text" => text} = command, script) do
    with {:ok, module} <- load(command["bytes"], script),
         do: module |> link(script) |> expect(text, &unlinkable?(&1, text))
  end

  defp check(%{"type" => type, "text" => text} = command, script)
       when type in ["assert_invalid", "assert_malformed"],
       do: command["bytes"] |> load(script) |> expect(text, &refused?/1)

  defp expect(outcome, wanted, as_wanted?) do
    if as_wanted?.(outcome),
      do: :ok,
      else: {:error, "expected #{shown(wanted)}, got #{shown(outcome)}"}
  end

  defp returned?({:ok, result}, patterns), do: Pattern.matches?(result, patterns)
  defp returned?(_error, _patterns), do: false

  defp expect_trap(outcome, text) do
    expect(outcome, "the trap #{text}", fn
      {:error, %TrapError{detail: detail}} -> means?(detail, text)
      _other -> false
    end)
  end

  # Whether Wasmtime's text for a trap says what the script's does. It tells neither which element was uninitialized, nor of
  # which type a null was.
  defp means?(detail, "uninitialized element" <> _), do: detail =~ "uninitialized element"

  defp means?(detail, text) do
    null? = text =~ "null" and (text =~ "reference" or text =~ "function")
    nulls = if null?, do: ["null reference", "uninitialized element"], else: []
    String.contains?(detail, [text | nulls])
  end

  defp unlinkable?({:error, %LinkError{problems: problems}}, text) do
    unknown? = text == "unknown import"
    Enum.any?(problems, &(String.starts_with?(&1.reason, "missing") == unknown?))
  end

  defp unlinkable?(_outcome, _text), do: false

  # What is valid and only too much for us is not refused as the script has it.
  defp refused?({:error, %LoadError{reason: reason}}),
    do: reason in [:not_wasm, :component, :invalid, :invalid_text, :unsupported_feature]

  defp refused?(_outcome), do: false

  # Calls

  defp act(%{"type" => "invoke", "field" => function, "args" => args} = action, script) do
    with {:ok, instance} <- find(action["module"], script),
         do: Instance.call(instance, function, Pattern.arguments(args))
  end

  defp act(%{"type" => "get", "field" => global} = action, script) do
    with {:ok, instance} <- find(action["module"], script),
         do: Instance.get_global(instance, global)
  end

  # The sign of a canonical NaN is not told by `:nan`. A guest can see it: the call is made once more, from a module that
  # returns the result's bits.
  defp check_sign(_action, nil, _script), do: :ok

  defp check_sign(
         %{"type" => "invoke", "args" => args} = action,
         [%{"type" => type}] = bits,
         script
       ) do
    :counters.add(script.tally, 2, 1)

    with {:ok, instance} <- find(action["module"], script),
         {:ok, module} <- load(reader(action, type), script),
         {:ok, reader} <- link(module, put_in(script.registered["read"], instance)),
         outcome = Instance.call(reader, "bits", Pattern.arguments(args)),
         do: expect(outcome, bits, &returned?(&1, bits))
  end

  defp reader(%{"field" => function, "args" => args}, "i" <> size) do
    name = for <<byte <- function>>, into: "", do: "\\" <> Base.encode16(<<byte>>)
    params = Enum.map_join(args, " ", & &1["type"])
    gets = Enum.map_join(0..(length(args) - 1)//1, " ", &"(local.get #{&1})")

    """
    (module
      (import "read" "#{name}" (func $read (param #{params}) (result f#{size})))
      (func (export "bits") (param #{params}) (result i#{size})
        (i#{size}.reinterpret_f#{size} (call $read #{gets}))))
    """
  end

  # Words

  defp shown(text) when is_binary(text), do: text
  defp shown({:error, error}), do: shown(error)

  defp shown(error) when is_exception(error),
    do: "#{inspect(error.__struct__)}: #{Exception.message(error)}"

  defp shown(term), do: inspect(term, limit: 20, printable_limit: 200)
end
