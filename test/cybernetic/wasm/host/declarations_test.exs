defmodule Cybernetic.WASM.Host.DeclarationsTest do
  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{Executor, Host, HostError, Instance, LinkError, Run}

  defmodule Env do
    use Cybernetic.WASM.Host

    defimport none(_ctx) do
      :ignored
    end

    defimport add(_ctx, a :: i32, b :: i32) :: i32 do
      a + b
    end

    defimport split(_ctx, n :: i64) :: {i32, i32}, as: "split-64" do
      [div(n, 4_294_967_296), rem(n, 4_294_967_296)]
    end

    defimport floats(_ctx, a :: f32, b :: f64) :: {f64, f32, i32} do
      [b, a, 7]
    end

    defimport lanes(_ctx, v :: v128) :: v128, module: "vectors" do
      <<low::64, high::64>> = v
      <<high::64, low::64>>
    end

    defimport same(_ctx, term :: externref, function :: funcref) :: {externref, funcref},
      module: "refs" do
      [term, function]
    end
  end

  @env ~S"""
  (module
    (import "env" "none" (func $none))
    (import "env" "add" (func $add (param i32 i32) (result i32)))
    (import "env" "split-64" (func $split (param i64) (result i32 i32)))
    (import "env" "floats" (func $floats (param f32 f64) (result f64 f32 i32)))
    (import "vectors" "lanes" (func $lanes (param v128) (result v128)))
    (import "refs" "same" (func $same (param externref funcref) (result externref funcref)))
    (func (export "none") (call $none))
    (func (export "add") (param i32 i32) (result i32) (call $add (local.get 0) (local.get 1)))
    (func (export "split") (param i64) (result i32 i32) (call $split (local.get 0)))
    (func (export "floats") (param f32 f64) (result f64 f32 i32)
      (call $floats (local.get 0) (local.get 1)))
    (func (export "lanes") (param v128) (result v128) (call $lanes (local.get 0)))
    (func (export "same") (param externref) (result externref)
      (call $same (local.get 0) (ref.null func)) drop))
  """

  # A module's name of its own for each that a test declares.
  defp declare(code, use \\ "") do
    name = "Cybernetic.WASM.Host.DeclarationsTest.M#{System.unique_integer([:positive])}"
    code = "defmodule #{name} do\nuse Cybernetic.WASM.Host#{use}\n#{code}\nend"
    {{:module, module, _, _}, _} = code |> Code.string_to_quoted!() |> Code.eval_quoted()
    module
  end

  # What is wrong with a declaration, as the one who compiles it is told.
  defp wrong(code, use \\ "") do
    assert_raise(ArgumentError, fn -> declare(code, use) end) |> Exception.message()
  end

  defp problems(module, imports) do
    assert {:error, %LinkError{problems: problems} = error} =
             Executor.call(module, "run", [], imports: imports)

    assert Exception.message(error) =~ "#{length(problems)} import(s) cannot be satisfied"
    Map.new(problems, &{{&1.module, &1.name}, &1.reason})
  end

  describe "a declared function" do
    test "is called as its types say, whatever they are" do
      module = load!(@env)
      call = fn name, args -> Executor.call!(module, name, args, imports: Env) end
      assert call.("none", []) == nil
      assert call.("add", [2, 3]) == 5
      assert call.("split", [(5 <<< 32) + 6]) == [5, 6]
      assert call.("floats", [0.5, :nan]) == [:nan, 0.5, 7]
      assert call.("lanes", [<<1::64, 2::64>>]) == <<2::64, 1::64>>
      assert call.("same", [%{any: "term"}]) == %{any: "term"}
    end

    test "is an ordinary function besides, with its context first" do
      assert Env.add(:no_context, 1, 2) == 3
      assert Env.split(nil, 1 <<< 32) == [1, 0]
    end

    test "has clauses, local variables and private functions like any other" do
      module =
        declare("""
        defimport f(_ctx, 0 :: i32) :: i32 do
          zero()
        end

        defimport f(ctx, n :: i32) :: i32 do
          {:ok, double} = Cybernetic.WASM.Host.call(ctx, "double", [n])
          double + 1
        end

        defp zero, do: 100
        """)

      assert Executor.call(calling(), "run", [0], imports: module) == {:ok, 100}
      assert Executor.call(calling(), "run", [5], imports: module) == {:ok, 11}
    end

    test "reads memory, emits and asks for its data through its context" do
      module =
        declare("""
        alias Cybernetic.WASM.Host

        defimport f(ctx, n :: i32) :: i32 do
          :ok = Host.write(ctx, 8, "text")
          {:ok, text} = Host.read(ctx, 8, 4)
          Host.emit(ctx, text)
          n + Host.data(ctx)
        end
        """)

      assert {:ok, %Run{result: 42, output: "text"}} =
               Executor.run(calling(), "run", [2], imports: module, data: 40)
    end

    test "fails as any other, with its own stack" do
      module = declare("defimport f(_ctx, n :: i32) :: i32, do: raise \"no \#{n}\"")

      assert {:error,
              %HostError{reason: %RuntimeError{message: "no 1"}, import: {"env", "f"}} = e} =
               Executor.call(calling(), "run", [1], imports: module)

      assert [{^module, :f, 2, _} | _] = e.stacktrace
    end

    test "takes its module's name and its own from `use` and its options" do
      module =
        declare(
          """
          @name "from an attribute"
          defimport f(_ctx) :: i32, do: 1
          defimport g(_ctx) :: i32, as: "not an Elixir name!", do: 2
          defimport h(_ctx) :: i32, module: "elsewhere", do: 3
          defimport i(_ctx) :: i32, as: @name, do: 4
          """,
          ~s(, module: "my env")
        )

      guest =
        load!(~S"""
        (module
          (import "my env" "f" (func $f (result i32)))
          (import "my env" "not an Elixir name!" (func $g (result i32)))
          (import "elsewhere" "h" (func $h (result i32)))
          (import "my env" "from an attribute" (func $i (result i32)))
          (func (export "run") (result i32 i32 i32 i32) (call $f) (call $g) (call $h) (call $i)))
        """)

      assert Executor.call(guest, "run", [], imports: module) == {:ok, [1, 2, 3, 4]}
    end

    test "is asynchronous if it says so" do
      module =
        declare("""
        defimport f(_ctx, n :: i32) :: i32, async: true do
          Task.async(fn -> n + 1 end)
        end
        """)

      assert Executor.call(calling(), "run", [1], imports: module) == {:ok, 2}

      module = declare("defimport f(_ctx, n :: i32) :: i32, async: false, do: n")
      assert Executor.call(calling(), "run", [1], imports: module) == {:ok, 1}
    end

    test "serves a live instance, an async call and a stream" do
      module =
        declare(
          "defimport f(ctx, n :: i32) :: i32, do: Cybernetic.WASM.Host.emit(ctx, \"x\") && n"
        )

      instance = Instance.new!(calling(), imports: module)
      assert Instance.call(instance, "run", [3]) == {:ok, 3}
      assert instance |> Executor.async("run", [4]) |> Executor.await() == {:ok, 4}
      assert Enum.to_list(Executor.stream(calling(), "run", [1], imports: module)) == ["x"]
    end
  end

  describe "linking compares the declarations with the imports:" do
    test "what is missing, of another type and not imported is named in one error" do
      module =
        declare("""
        defimport right(_ctx, a :: i32) :: i32, do: a
        defimport type(_ctx, a :: i32) :: i32, do: a
        defimport results(_ctx, a :: i32) :: {i32, i32}, do: [a, a]
        defimport arity(_ctx, a :: i32, b :: i32), do: a + b
        defimport extra(_ctx), do: nil
        defimport elsewhere(_ctx), module: "other", do: nil
        """)

      guest =
        load!(~S"""
        (module
          (import "env" "right" (func (param i32) (result i32)))
          (import "env" "type" (func (param i32) (result i64)))
          (import "env" "results" (func (param i32) (result i32)))
          (import "env" "arity" (func (param i32)))
          (import "env" "missing" (func))
          (func (export "run")))
        """)

      found = problems(guest, module)
      name = inspect(module)

      assert found == %{
               {"env", "type"} => "#{name} declares it as (func (param i32) (result i32))",
               {"env", "results"} => "#{name} declares it as (func (param i32) (result i32 i32))",
               {"env", "arity"} => "#{name} declares it as (func (param i32 i32))",
               {"env", "missing"} =>
                 ~s|missing; given for this module: "arity", "extra", "results", "right", "type"|,
               {"env", "extra"} => "declared by #{name}, but the module does not import it",
               {"other", "elsewhere"} => "declared by #{name}, but the module does not import it"
             }

      # Instances are linked no other way.
      assert {:error, %LinkError{problems: problems}} = Instance.new(guest, imports: module)
      assert length(problems) == 6
    end

    test "every type is another" do
      types = ~w(i32 i64 f32 f64 v128 funcref externref)

      for declared <- types, imported <- types do
        module = declare("defimport f(_ctx, x :: #{declared}) :: #{declared}, do: x")

        guest =
          load!("""
          (module (import "env" "f" (func (param #{imported}) (result #{imported})))
            (func (export "run")))
          """)

        result = Executor.call(guest, "run", [], imports: module)

        if declared == imported,
          do: assert(result == {:ok, nil}),
          else: assert({:error, %LinkError{problems: [_]}} = result)
      end
    end

    test "`extra: :ignore` lets a module import less than is declared, and no other type" do
      module =
        declare(
          """
          defimport f(_ctx, n :: i32) :: i32, do: n
          defimport unused(_ctx), do: nil
          defimport elsewhere(_ctx), module: "other", do: nil
          """,
          ", extra: :ignore"
        )

      assert Executor.call(calling(), "run", [1], imports: module) == {:ok, 1}
      assert Executor.call(compute(), "process", [1], imports: module) == {:ok, 2}
      guest = load!(~S|(module (import "env" "f" (func (param i64))) (func (export "run")))|)
      assert %{{"env", "f"} => "" <> _} = problems(guest, module)
    end

    test "a wrong declaration is no part of a call: host functions do not run, nor does the guest" do
      module = declare("defimport f(_ctx, n :: i64) :: i32, do: exit(n)")
      assert %{{"env", "f"} => _} = problems(calling(), module)
    end
  end

  describe "`imports:` takes" do
    setup do
      one = declare("defimport f(_ctx, _n :: i32) :: i32, do: 1")
      two = declare("defimport f(_ctx, _n :: i32) :: i32, do: 2", ", extra: :ignore")
      {:ok, one: one, two: two, map: f(fn _ctx, _n -> 3 end)}
    end

    test "a list, of which the later ones win", %{one: one, two: two, map: map} do
      for {imports, result} <- [
            {[one], 1},
            {[one, two], 2},
            {[two, one], 1},
            {[one, map], 3},
            {[map, one], 1},
            {[one, two, map], 3},
            {[[one, two], [map, [two]]], 2},
            {[map, []], 3}
          ] do
        assert Executor.call(calling(), "run", [0], imports: imports) == {:ok, result}
      end
    end

    test "several that each have a part, also of one module's name", %{one: one} do
      two = declare("defimport g(_ctx, n :: i32) :: i32, do: n * 2")
      three = %{"more" => %{"h" => fn _ctx, n -> n * 3 end}, "env" => %{"unused" => nil}}

      guest =
        asking(~S"""
        (import "env" "g" (func $g (param i32) (result i32)))
        (import "more" "h" (func $h (param i32) (result i32)))
        (func (export "run") (result i32)
          (call $h (call $g (call $f (i32.const 9)))))
        """)

      assert Executor.call(guest, "run", [], imports: [one, two, three]) == {:ok, 6}
    end

    test "a declaration that a map overrides is asked for no more", %{one: one} do
      other = declare("defimport f(_ctx, n :: i64) :: i64, do: n")
      assert Executor.call(calling(), "run", [0], imports: [other, one]) == {:ok, 1}
      map = f(fn _ctx, n -> n end)
      assert Executor.call(calling(), "run", [5], imports: [other, map]) == {:ok, 5}
      assert %{{"env", "f"} => _} = problems(calling(), [map, other])
    end

    test "a module for one call on a live instance", %{one: one, two: two, map: map} do
      instance = Instance.new!(calling(), imports: one)
      assert Instance.call(instance, "run", [0]) == {:ok, 1}
      assert Instance.call(instance, "run", [0], imports: two) == {:ok, 2}
      assert Instance.call(instance, "run", [0], imports: [two, map]) == {:ok, 3}
      assert Instance.call(instance, "run", [0]) == {:ok, 1}
    end

    test "a module without a single declaration for nothing, and one without `use` not at all" do
      empty = declare("")
      assert Executor.call(compute(), "process", [1], imports: empty) == {:ok, 2}
      assert %{{"env", "f"} => "missing" <> _} = problems(calling(), empty)

      for {other, words} <- [
            {String, "String has no host functions: it needs `use Cybernetic.WASM.Host`"},
            {NoSuchModule, "NoSuchModule has no host functions"},
            {:env, ":env has no host functions"},
            {[Env, String], "String has no host functions"},
            {nil, "option :imports must be"},
            {true, "option :imports must be"},
            {"env", "option :imports must be"},
            {[Env | String], "option :imports must be"},
            {[{"env", %{}}], "option :imports must be"},
            {[env: %{}], "option :imports must be"}
          ] do
        error =
          assert_raise ArgumentError, fn ->
            Executor.call(compute(), "process", [1], imports: other)
          end

        assert error.message =~ words
      end

      assert mailbox() == []
    end
  end

  describe "what is wrong with a declaration is told when it is compiled:" do
    test "a type that is none" do
      known = "known are: i32, i64, f32, f64, v128, funcref, externref"

      for {code, type} <- [
            {"defimport f(_ctx, a :: u32), do: a", "u32"},
            {"defimport f(_ctx, a :: i33) :: i32, do: a", "i33"},
            {"defimport f(_ctx) :: string, do: 1", "string"},
            {"defimport f(_ctx) :: {i32, int}, do: 1", "int"},
            {"defimport f(_ctx) :: {i32, i32, anyref}, do: 1", "anyref"},
            {"defimport f(_ctx) :: [i32], do: 1", "[i32]"},
            {"defimport f(_ctx, a :: integer()), do: a", "integer()"},
            {"defimport f(_ctx, a :: String.t()), do: a", "String.t()"}
          ] do
        message = wrong(code)
        assert message =~ "unknown type"
        assert message =~ type
        assert message =~ known
      end
    end

    test "no context, no name, no types" do
      for {code, words} <- [
            {"defimport f(), do: 1", "a declaration is name(context, parameter :: type, …)"},
            {"defimport f, do: 1", "a declaration is name(context, parameter :: type, …)"},
            {"defimport f() :: i32, do: 1", "got: f()"},
            {"defimport \"f\", do: 1", "a declaration is name(context"},
            {"defimport f(_ctx, a), do: a", "a parameter is variable :: type, got: a"},
            {"defimport f(_ctx, a :: i32, b) :: i32, do: a + b", "got: b"},
            {"defimport f(_ctx, a \\\\ 1) :: i32, do: a", "a parameter is variable :: type"},
            {"defimport f(_ctx, a :: i32) when a > 0, do: a", "a declaration is name(context"}
          ] do
        assert wrong(code) =~ words
      end
    end

    test "options that are unknown, or have a wrong value" do
      # They were ignored, so that a misspelt `async:` made the function a synchronous one.
      for {code, words} <- [
            {"defimport f(_ctx), asnyc: true, do: 1",
             "unknown option of defimport :asnyc; known are: :as, :module, :async, :ends"},
            {"defimport f(_ctx), extra: :ignore, do: 1", "unknown option of defimport :extra"},
            {"defimport f(_ctx), async: 1, do: 1", "option :async must be true or false, got: 1"},
            {"defimport f(_ctx), async: nil, do: 1", "option :async must be true or false"},
            {"defimport f(_ctx), as: :name, do: 1", "option :as must be a string, got: :name"},
            {"defimport f(_ctx), module: :env, do: 1", "option :module must be a string"},
            {"defimport f(_ctx), :async, do: 1", "options of defimport must be a keyword list"}
          ] do
        assert wrong(code) =~ words
      end

      for {use, words} <- [
            {", modul: \"env\"",
             "unknown option of use :modul; known are: :module, :interface, :extra"},
            {", module: :env", "option :module must be a string, got: :env"},
            {", extra: :warn", "option :extra must be :refuse or :ignore, got: :warn"},
            {", extra: false", "option :extra must be :refuse or :ignore"},
            {", :env", "options of use must be a keyword list, got: :env"}
          ] do
        assert wrong("", use) =~ words
      end
    end

    test "one name and type for two functions" do
      # The one that was declared last won without a word.
      assert wrong("""
             defimport f(_ctx), as: "same", do: 0
             defimport g(_ctx), as: "same", do: 1
             """) =~ ~s|"env" "same" is declared twice as (func)|

      # In two modules it is two functions.
      module =
        declare("""
        defimport f(_ctx) :: i32, as: "same", module: "a", do: 1
        defimport g(_ctx) :: i32, as: "same", module: "b", do: 2
        """)

      guest =
        load!(~S"""
        (module
          (import "a" "same" (func $a (result i32))) (import "b" "same" (func $b (result i32)))
          (func (export "run") (result i32 i32) (call $a) (call $b)))
        """)

      assert Executor.call(guest, "run", [], imports: module) == {:ok, [1, 2]}
    end
  end

  test "one name may be declared with several types, each of which is its own function" do
    module =
      declare("""
      defimport log(_ctx, n :: i32) :: i32, do: n + 1
      defimport log_long(_ctx, n :: i64) :: i64, as: "log", do: n + 2
      defimport log(_ctx, a :: i32, b :: i32) :: i32, do: a + b
      """)

    guest =
      load!(~S"""
      (module
        (import "env" "log" (func $long (param i64) (result i64)))
        (import "env" "log" (func $two (param i32 i32) (result i32)))
        (import "env" "log" (func $one (param i32) (result i32)))
        (func (export "run") (result i32 i64 i32)
          (call $one (i32.const 10)) (call $long (i64.const 10)) (call $two (i32.const 3) (i32.const 4))))
      """)

    assert Executor.call(guest, "run", [], imports: module) == {:ok, [11, 12, 7]}
    instance = Instance.new!(guest, imports: [module])
    assert Instance.call(instance, "run") == {:ok, [11, 12, 7]}

    other = load!(~S|(module (import "env" "log" (func (param f32))) (func (export "run")))|)

    assert {:error, %LinkError{problems: [%{reason: reason}]}} =
             Executor.call(other, "run", [], imports: module)

    assert reason =~ "none of the 3 that were given fits"
    assert reason =~ "declares it as (func (param i64) (result i64))"
  end

  test "a function may have as many parameters and results as a guest can give" do
    count = 100
    params = for n <- 1..count, do: "a#{n} :: i32"
    results = List.duplicate("i32", count)
    names = for n <- 1..count, do: "a#{n}"

    module =
      declare("""
      defimport f(_ctx, #{Enum.join(params, ", ")}) :: {#{Enum.join(results, ", ")}} do
        Enum.reverse([#{Enum.join(names, ", ")}])
      end
      """)

    types = Enum.join(results, " ")
    gets = for n <- 0..(count - 1), do: "(local.get #{n})"

    guest =
      load!("""
      (module
        (import "env" "f" (func $f (param #{types}) (result #{types})))
        (func (export "run") (param #{types}) (result #{types}) (call $f #{gets})))
      """)

    numbers = Enum.to_list(1..count)
    assert Executor.call(guest, "run", numbers, imports: module) == {:ok, Enum.reverse(numbers)}
  end

  test "the context is the host function's own even where it is not called ctx" do
    module =
      declare("""
      defimport f(%Cybernetic.WASM.Host.Context{} = context, n :: i32) :: i32 do
        Cybernetic.WASM.Host.emit(context, "seen")
        n
      end
      """)

    assert {:ok, %Run{output: "seen"}} = Executor.run(calling(), "run", [1], imports: module)
    assert is_function(&Host.emit/2)
  end

  test "an extra one is named beside a memory and a function that are missing" do
    module =
      load!(~S"""
      (module
        (import "env" "memory" (memory 1))
        (import "env" "gone" (func))
        (import "env" "add" (func (param i64) (result i32)))
        (func (export "run")))
      """)

    problems = problems(module, Env)
    assert problems[{"env", "memory"}] =~ "missing"
    assert problems[{"env", "gone"}] =~ "missing"
    assert problems[{"env", "add"}] =~ "declares it as (func (param i32 i32) (result i32))"
    assert problems[{"env", "none"}] =~ "the module does not import it"
  end

  describe "of an interface" do
    defmodule Database do
      use Cybernetic.WASM.Host, interface: "acme:host/db"

      defimport(open(_ctx, number), as: "[constructor]conn", do: {:conn, number, self()})
      defimport(get(_ctx, {:conn, number, _pid}), as: "[method]conn.get", do: number)
      defimport(shut(_ctx, {:conn, number, _pid}), as: "[static]conn.close", do: number)
      defimport(finish({:conn, _number, pid} = conn), ends: "conn", do: send(pid, {:ended, conn}))
    end

    defmodule Greetings do
      use Cybernetic.WASM.Host, interface: "acme:host/greetings"

      defimport say_hello(_ctx, "") do
        "Hello!"
      end

      defimport say_hello(_ctx, name) do
        "Hello, #{name}!"
      end
    end

    @resources "test/fixtures/components/resources.wat"

    defp component, do: Cybernetic.WASM.Runtime.load_module!(@resources)

    test "the types are the component's, and the version may be left out" do
      assert {:ok, 7} = Executor.call(component(), "open", [7], imports: Database)
      assert_receive {:ended, {:conn, 7, _pid}}

      assert {:ok, {:conn, 8, _pid}} =
               Executor.call(component(), "hand-out", [8], imports: Database)
    end

    test "names have hyphens, and a function may have several clauses" do
      assert %{"acme:host/greetings" => %{"say-hello" => function}} = Greetings.__wasm_imports__()
      assert function.function.(nil, "") == "Hello!"
      assert function.function.(nil, "Ada") == "Hello, Ada!"
    end

    test "what is declared and not imported is named, beside what is missing" do
      assert {:error, %LinkError{problems: problems}} =
               Executor.call(component(), "open", [1], imports: Greetings)

      names = MapSet.new(problems, &{&1.module, &1.name})
      assert {"acme:host/greetings", "say-hello"} in names
      assert {"acme:host/db@1.0.0", "[method]conn.get"} in names
    end

    test "a function of another arity is refused" do
      module =
        declare(
          ~S|defimport f(_ctx, _a, _b), as: "[method]conn.get", do: 1|,
          ", interface: \"acme:host/db\""
        )

      assert {:error, %LinkError{problems: problems}} =
               Executor.call(component(), "open", [1], imports: [Database, module])

      assert [%{name: "[method]conn.get", reason: reason}] = problems
      assert reason =~ "a function of 2 arguments"
    end

    test "types, and what ends nothing, are refused" do
      interface = ", interface: \"acme:host/db\""

      for {code, use, words} <- [
            {"defimport f(_ctx, a :: i32), do: a", interface, "leave them out"},
            {"defimport f(_ctx) :: i32, do: 1", interface, "leave them out"},
            {"defimport f(_ctx, a), ends: \"conn\", do: a", interface, "takes that alone"},
            {"defimport f(a), ends: \"conn\", do: a", "", "takes that alone"},
            {"defimport f(a), ends: :conn, do: a", interface, "option :ends must be a string"},
            {"defimport f(_ctx), do: 1", ", interface: \"a:b/c\", module: \"env\"",
             "not of both"},
            {"defimport f(_ctx), do: 1", ", interface: 1", "option :interface must be a string"}
          ] do
        assert wrong(code, use) =~ words
      end
    end
  end
end
