defmodule Cybernetic.WASM.Security.AtomsTest do
  # Atoms are never collected: a bridge that made one of each name it met could be filled up by its guests until the VM
  # died. It also gave keys as atoms or strings by what the node's atom table happened to hold.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Executor, LinkError, LoadError, Module, Runtime, TrapError}

  defp atoms, do: :erlang.system_info(:atom_count)

  defp odd(n), do: "näme_#{n}_#{System.unique_integer([:positive])}"

  # The same work on another module first, so that the code it needs is loaded.
  defp no_new_atoms(work) do
    work.()
    before = atoms()
    work.()
    assert atoms() == before
  end

  test "of the names of exports, imports, functions and custom sections" do
    no_new_atoms(fn ->
      imports = for n <- 1..1_000, do: ~s|(import "#{odd(n)}" "#{odd(n)}" (func))|

      exports =
        for n <- 1..1_000, do: ~s|(func $#{n}_#{n}x (export "#{odd(n)}") (param i32) unreachable)|

      globals = for n <- 1..1_000, do: ~s|(global (export "g#{odd(n)}") i32 (i32.const 0))|
      module = load!("(module #{imports} #{exports} #{globals})")

      assert length(Module.imports(module)) == 1_000
      assert [%{name: name} | _] = exported = Module.exports(module)
      assert length(exported) == 2_000
      assert {:error, %LinkError{} = error} = Executor.call(module, name, [1])
      assert Exception.message(error) =~ "1000 import(s)"
      inspect(module)

      section = odd(1)
      wasm = <<0, "asm", 1, 0, 0, 0, 0, byte_size(section) + 1, byte_size(section)>> <> section
      assert [%{name: ^section}] = Module.custom_sections(load!(wasm))
    end)
  end

  test "of names that a call asks for" do
    module = compute()

    no_new_atoms(fn ->
      for n <- 1..1_000, do: assert({:error, _} = Executor.call(module, odd(n), [1]))
    end)
  end

  test "of names in a trap's frames" do
    no_new_atoms(fn ->
      for n <- 1..100 do
        name = "f#{n}_#{System.unique_integer([:positive])}"
        module = load!("(module (func $#{name} (export \"run\") unreachable))")
        assert {:error, %TrapError{frames: [%{name: ^name}]}} = Executor.call(module, "run")
      end
    end)
  end

  test "of the words of a refusal" do
    no_new_atoms(fn ->
      for n <- 1..200 do
        assert {:error, %LoadError{} = error} =
                 Runtime.load_module(
                   {:bytes, "(module (func (call $#{n}_#{System.unique_integer([:positive])})))"}
                 )

        Exception.message(error)
        assert {:error, %LoadError{}} = Runtime.load_module({:bytes, :rand.bytes(100)})

        assert {:error, %LoadError{}} =
                 Runtime.load_module({:bytes, <<0, "asm", 1, 0, 0, 0>> <> :rand.bytes(50)})
      end
    end)
  end

  test "of arguments that are refused, and of text from a guest's memory" do
    module = calling()

    no_new_atoms(fn ->
      for n <- 1..200 do
        assert {:error, _} = Executor.call(module, "run", [odd(n)], imports: f(fn _, n -> n end))
        assert {:error, _} = Executor.call(module, "run", [n], imports: f(fn _, n -> odd(n) end))
      end
    end)
  end
end
