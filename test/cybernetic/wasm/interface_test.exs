defmodule Cybernetic.WASM.InterfaceTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Eventually

  alias Cybernetic.WASM.{CallError, Executor, Instance, LimitError, LoadError, Module, TrapError}

  defmodule Compute do
    use Cybernetic.WASM, source: "priv/wasm/compute.wasm", call: [fuel: 1_000_000]
  end

  defmodule Types do
    use Cybernetic.WASM,
      source:
        {:bytes,
         ~S"""
         (module
           (import "env" "twice" (func $twice (param i32) (result i32)))
           (global $n (mut i32) (i32.const 0))
           (memory (export "memory") 1)
           (func (export "twice") (param i32) (result i32) (call $twice (local.get 0)))
           (func (export "nextNumber") (result i32)
             (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
           (func (export "all-of-them") (param i32 i64 f32 f64 v128 externref)
             (result i32 i64 f32 f64 v128 externref)
             (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5))
           (func (export "HTTPStatus.code") (param f32 f32) (result f32 f32)
             (local.get 1) (local.get 0))
           (func (export "max") (param i32 i32) (result i32) (local.get 0))
           (func (export "1+2") (result i32) (i32.const 3))
           (func (export "left out!") (result i32) (i32.const 3)))
         """},
      as: %{"max" => :first, "1+2" => :one_and_two},
      except: ["left out!"],
      call: [imports: %{"env" => %{"twice" => fn _ctx, n -> 2 * n end}}]
  end

  # What the one who compiles `use` with these options is told.
  defp wrong(opts, error \\ CompileError) do
    assert_raise(error, fn -> define(opts) end) |> Exception.message()
  end

  defp define(opts) do
    name = Elixir.Module.concat(__MODULE__, "M#{System.unique_integer([:positive])}")

    code =
      "defmodule #{inspect(name)} do\n  use Cybernetic.WASM, #{opts}\n  @compile :debug_info\nend"

    [{module, beam}] = Code.compile_string(code, "lib/somewhere.ex")
    {module, beam}
  end

  # A module that exports functions of these names.
  defp exporting(names, params \\ 0) do
    params = List.duplicate("i32", params) |> Enum.join(" ")
    functions = for name <- names, do: "(func (export #{inspect(name)}) (param #{params}))"
    "source: {:bytes, ~S|(module #{Enum.join(functions, " ")})|}"
  end

  describe "a function" do
    test "calls its export, in a fresh instance each time" do
      assert Compute.div_mod(7, 2) == {:ok, [3, 1]}
      assert Compute.process!(42) == 84
      assert Types.next_number() == {:ok, 1}
      assert Types.next_number() == {:ok, 1}
    end

    test "takes and gives what its type says" do
      vector = <<1::128>>

      assert Types.all_of_them(1, 2, 3.0, 4.0, vector, :term) ==
               {:ok, [1, 2, 3.0, 4.0, vector, :term]}

      assert Types.http_status_code(1, 2) == {:ok, [2.0, 1.0]}
      assert Types.first(1, 2) == {:ok, 1}
      assert Types.one_and_two() == {:ok, 3}
      refute function_exported?(Types, :left_out, 0)
      assert {:error, %CallError{reason: :type, index: 0}} = Compute.process("42")
    end

    test "takes the options of a call last, over those of the module" do
      assert {:error, %LimitError{limit: :fuel, allowed: 1_000_000}} = Compute.spin()
      assert {:error, %LimitError{limit: :fuel, allowed: 1_000}} = Compute.spin(fuel: 1_000)
      assert_raise LimitError, fn -> Compute.spin!(fuel: 1_000) end
      assert Types.twice(4) == {:ok, 8}
      thrice = %{"env" => %{"twice" => fn _ctx, n -> 3 * n end}}
      assert Types.twice(4, imports: thrice) == {:ok, 12}
      assert {:error, %TrapError{}} = Compute.div_mod(1, 0)
      assert_raise TrapError, fn -> Compute.div_mod!(1, 0) end
    end

    test "refuses what is no option" do
      assert_raise ArgumentError, ~r/unknown call option :feul/, fn ->
        Compute.process(1, feul: 1)
      end

      assert_raise ArgumentError, ~r/must be a keyword list/, fn -> Compute.process(1, 2) end
      assert_raise ArgumentError, ~r/must be a keyword list/, fn -> Compute.process(1, [2]) end
    end

    test "calls a live instance where that is among the options" do
      {:ok, instance} = Types.instance()
      assert Types.next_number(instance: instance) == {:ok, 1}
      assert Types.next_number!(instance: instance, timeout: 60_000) == 2
      # It was made with the options of the module.
      assert Types.twice(4, instance: instance) == {:ok, 8}
      assert Instance.call(instance, "nextNumber") == {:ok, 3}
      assert Types.next_number() == {:ok, 1}
    end

    test "calls the instance of a server" do
      {:ok, server} =
        start_supervised(
          {Instance,
           module: Types.module!(), imports: %{"env" => %{"twice" => fn _ctx, n -> n end}}}
        )

      assert Types.next_number(instance: server) == {:ok, 1}
      assert Types.next_number(instance: server) == {:ok, 2}
    end

    test "has a specification" do
      {_module, beam} = define(~S|source: "priv/wasm/compute.wasm"|)
      {:ok, specs} = Code.Typespec.fetch_specs(beam)

      texts =
        for {{:div_mod, arity}, [spec]} <- specs, into: %{}, do: {arity, text(:div_mod, spec)}

      assert texts[2] =~
               "div_mod(Cybernetic.WASM.Value.i32(), Cybernetic.WASM.Value.i32()) :: {:ok, [Cybernetic.WASM.Value.i32()]} | {:error, Cybernetic.WASM.Error.t()}"

      assert texts[3] =~ "[Cybernetic.WASM.call_option()]"
      assert {{:div_mod!, 3}, _} = List.keyfind(specs, {:div_mod!, 3}, 0)
    end
  end

  defp text(name, spec),
    do:
      name
      |> Code.Typespec.spec_to_quoted(spec)
      |> Macro.to_string()
      |> String.replace(~r/\s+/, " ")

  describe "a function that is called by an ABI" do
    @abi "abi: [alloc: \"alloc\", result: :packed]"
    @wat ~S"""
    (module (memory (export "memory") 1) (global $next (mut i32) (i32.const 1024))
      (func (export "alloc") (param $size i32) (result i32)
        (global.get $next) (global.set $next (i32.add (global.get $next) (local.get $size))))
      (func (export "first") (param $n i32) (param $at i32) (param $size i32) (result i64)
        (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $n))))
      (func (export "numbers") (param f64) (result f64) (local.get 0)))
    """

    defp texts(by_abi, abi \\ @abi),
      do: "source: {:bytes, #{inspect(@wat)}}, #{abi}, by_abi: #{inspect(by_abi)}"

    test "takes bytes and gives them, and others do not" do
      {module, beam} = define(texts(%{"first" => [:value, :bytes]}))
      assert module.first(2, "hello") == {:ok, "he"}
      assert module.first!(4, ["he", ?l, "lo"], fuel: 1_000_000) == "hell"
      assert module.numbers(1.5) == {:ok, 1.5}

      {:ok, instance} = module.instance()
      assert module.first(1, "hello", instance: instance) == {:ok, "h"}

      {:ok, specs} = Code.Typespec.fetch_specs(beam)
      {_name, [spec]} = List.keyfind(specs, {:first, 2}, 0)

      assert text(:first, spec) =~
               "first(Cybernetic.WASM.Value.i32(), iodata()) :: {:ok, binary() | nil}"
    end

    test "has to be of a type that fits" do
      for kinds <- [[:bytes], [:bytes, :bytes], [:value, :bytes, :value], []] do
        message = wrong(texts(%{"first" => kinds}))

        assert message =~
                 ~s|the export "first" has the type (i32 i32 i32) -> (i64), which by_abi: #{inspect(kinds)} does not fit|
      end

      assert wrong(texts(%{"numbers" => [:cstring]})) =~ "does not fit"
      assert wrong(texts(%{"frist" => [:value, :bytes]})) =~ ~s|did you mean "first"?|
      assert wrong(texts(%{"first" => [:text]}), ArgumentError) =~ "option :by_abi must be"

      assert wrong(texts(%{"first" => [:value, :bytes]}, "abi: nil"), ArgumentError) =~
               "needs the option :abi"

      # What is room is no argument.
      {module, _beam} = define(texts(%{"first" => [:value, {:room, 8}, :value]}))
      assert {:ok, <<0>>} = module.first(1, 3)
    end
  end

  describe "the module of WebAssembly" do
    test "is loaded once, and kept" do
      module = Compute.module!()
      assert {:ok, %Module{name: "compute.wasm"}} = Compute.module()
      assert Compute.module!() === module
      assert Executor.call(module, "process", [1]) == {:ok, 2}
    end

    test "is one for all who want it first at the same time" do
      {module, _beam} = define(exporting(["f"]))
      callers = for _ <- 1..8, do: Task.async(fn -> {module.f(), module.module!()} end)
      results = await(callers)
      kept = module.module!()

      assert Enum.all?(results, fn {result, module} ->
               result == {:ok, nil} and module.digest == kept.digest
             end)

      assert module.module!() === kept
    end

    test "has to be what the code was compiled for" do
      path =
        Path.join(
          System.tmp_dir!(),
          "interface_#{System.pid()}_#{System.unique_integer([:positive])}.wasm"
        )

      on_exit(fn -> File.rm(path) end)
      File.write!(path, ~S|(module (func (export "f") (result i32) (i32.const 1)))|)
      {module, _beam} = define("source: #{inspect(path)}")
      refute module.__mix_recompile__?()

      File.write!(path, ~S|(module (func (export "f") (result i32) (i32.const 2)))|)
      assert module.__mix_recompile__?()
      assert {:error, %LoadError{reason: :digest_mismatch}} = module.f()
      assert_raise LoadError, fn -> module.module!() end

      File.rm!(path)
      assert module.__mix_recompile__?()
      assert {:error, %LoadError{reason: :not_found}} = module.instance()
    end

    test "is another where the code is" do
      {module, _beam} = define(exporting(["f"]) <> ", as: %{}")
      first = module.module!()
      code = "defmodule #{inspect(module)} do use Cybernetic.WASM, #{exporting(["g"])} end"
      :code.delete(module)
      Code.compile_string(code)
      assert module.g() == {:ok, nil}
      refute module.module!().digest == first.digest
    end
  end

  describe "an application's configuration" do
    test "comes over the options of the code" do
      {module, _beam} =
        define(
          ~S|source: "priv/wasm/compute.wasm", otp_app: :interface_test, call: [fuel: 10_000]|
        )

      assert {:error, %LimitError{allowed: 10_000}} = module.spin()
      Application.put_env(:interface_test, module, call: [fuel: 20_000])
      assert {:error, %LimitError{allowed: 20_000}} = module.spin()
      assert {:error, %LimitError{allowed: 5_000}} = module.spin(fuel: 5_000)

      Application.put_env(:interface_test, module, fuel: 20_000)

      assert_raise ArgumentError, ~r/unknown configuration key of .* :fuel/, fn ->
        module.spin()
      end

      # It may hold an environment's values.
      Application.put_env(:interface_test, module, call: %{env: "secret"})
      error = assert_raise ArgumentError, fn -> module.spin() end
      assert Exception.message(error) == "option :call must be a keyword list, got: a map"
    end

    test "holds for the load, too" do
      {module, _beam} = define(~S|source: "priv/wasm/compute.wasm", otp_app: :interface_test|)
      Application.put_env(:interface_test, module, load: [max_module_size: 10])
      assert {:error, %LoadError{reason: :too_large}} = module.process(1)
      Application.delete_env(:interface_test, module)
      assert module.process(1) == {:ok, 2}
    end
  end

  describe "the compiler refuses" do
    test "a file that is missing, or is no module" do
      assert wrong(~S|source: "priv/nowhere.wasm"|) =~
               ~r"\Alib/somewhere.ex:2: .*cannot load priv/nowhere.wasm: no such file"

      assert wrong(~S|source: "mix.exs"|) =~ "cannot load mix.exs: not WebAssembly"
      assert wrong(~S|source: {:bytes, "\0asm\1\0\0\0\xff\xff"}|) =~ "invalid at offset"
    end

    test "names that collide" do
      message = wrong(exporting(["fooBar", "foo-bar", "other"]))

      assert message =~
               ~S|the exports "fooBar" and "foo-bar" would both be foo_bar: name one of them with as:|

      assert {_module, _beam} =
               define(exporting(["fooBar", "foo-bar"]) <> ~S|, as: %{"foo-bar" => :other}|)

      assert {_module, _beam} =
               define(exporting(["fooBar", "foo-bar"]) <> ~S|, only: ["foo-bar"]|)
    end

    test "names that Kernel has with that many parameters" do
      assert wrong(exporting(["max"], 2)) =~
               ~S|the export "max" would be max/2, which Kernel has: give it a name with as: %{"max" => :name}|

      # With its options it would be one of Kernel's.
      assert wrong(exporting(["send"], 1)) =~ "send/1, which Kernel has"
      assert {module, _beam} = define(exporting(["max"], 3))
      assert module.max(1, 2, 3) == {:ok, nil}
    end

    test "names that mean something else, or cannot be said" do
      for name <- ["end", "case", "module", "instance", "__info__", "fn", "__wasm__"],
          do: assert(wrong(exporting([name])) =~ "means something else in Elixir")

      for name <- ["", "1+2", "größe", "_", "日", "a b?", String.duplicate("a", 255)],
          do: assert(wrong(exporting([name])) =~ "has no name that a function of Elixir can have")

      assert wrong(exporting(["f"]) <> ~S|, as: %{"f" => :"no name"}|) =~ "has no name"
      assert wrong(exporting(["f"]) <> ~S|, as: %{"f" => :end}|) =~ "means something else"
    end

    test "more parameters than a function can have" do
      assert wrong(exporting(["f"], 255)) =~ "takes 255 parameters"
      {module, _beam} = define(exporting(["f"], 254))
      assert apply(module, :f, List.duplicate(1, 254)) == {:ok, nil}
    end

    test "more functions than a module should have" do
      names = for n <- 1..2_001, do: "f#{n}"
      assert wrong(exporting(names)) =~ "2001 functions are too many"
      assert {_module, _beam} = define(exporting(names) <> ~S|, only: ["f7"]|)
    end

    test "all that is wrong at once" do
      message = wrong(exporting(["fooBar", "foo-bar", "1", "end"]) <> ~S|, except: ["fooBr"]|)
      assert message =~ "cannot be made of the exports"

      for part <- ["would both be foo_bar", ~S|the export "1"|, ~S|the export "end"|],
          do: assert(message =~ part)

      assert message =~ ~S|no function is exported as "fooBr" (did you mean "fooBar"?)|
    end

    test "a great many, and tells some of them" do
      message = wrong(exporting(for n <- 1..100, do: "#{n} things"))
      assert message =~ ~s|the export "1 things"|
      assert message =~ "and 80 more"
      assert byte_size(message) < 10_000
    end

    test "options that it does not know, or of another kind" do
      assert wrong("sorce: 1", ArgumentError) =~
               "unknown option of use Cybernetic.WASM :sorce (did you mean :source?)"

      assert wrong("otp_app: :my_app", ArgumentError) =~ "needs a :source"
      source = ~S|source: "priv/wasm/compute.wasm"|

      assert wrong(source <> ", only: [:fib]", ArgumentError) =~
               "option :only must be a list of names of exports"

      assert wrong(source <> ", as: [fib: :f]", ArgumentError) =~ "option :as must be a map"

      assert wrong(source <> ", load: [metring: :fuel]", ArgumentError) =~
               "unknown load option :metring"

      assert wrong("source: :nowhere", ArgumentError) =~ "a module is loaded from"
    end
  end
end
