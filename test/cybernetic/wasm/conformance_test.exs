defmodule Cybernetic.WASM.ConformanceTest do
  # WebAssembly's own test scripts, over Elixir alone: see Cybernetic.WASM.Conformance. Not async: it keeps all schedulers
  # busy.
  use ExUnit.Case, async: false

  alias Cybernetic.WASM.{Conformance, Runtime}
  alias Cybernetic.WASM.Conformance.{Script, Summary}

  @descriptors "custom descriptors are a proposal that Wasmtime does not implement"
  @page_sizes "custom page sizes are a proposal that is not among the features"
  @memories "an older rule: since multi-memory a module may have two"
  @threads "threads are always off"
  @slots "a module that does not fit a pool's slots cannot join a guest that lives in them"
  @wide "wide arithmetic is a proposal that is not among the features"

  # What is left out, `folder/file.wast` or `folder/file.wast:line`, and why.
  @skipped [
    {"custom-descriptors/array_new_exact.wast", @descriptors},
    {"custom-descriptors/binary-descriptors.wast", @descriptors},
    {"custom-descriptors/br_on_cast.wast", @descriptors},
    {"custom-descriptors/br_on_cast_desc_eq.wast", @descriptors},
    {"custom-descriptors/br_on_cast_desc_eq_fail.wast", @descriptors},
    {"custom-descriptors/br_on_cast_fail.wast", @descriptors},
    {"custom-descriptors/descriptors.wast", @descriptors},
    {"custom-descriptors/exact-casts.wast", @descriptors},
    {"custom-descriptors/exact-func-import.wast", @descriptors},
    {"custom-descriptors/exact.wast", @descriptors},
    {"custom-descriptors/ref_cast_desc_eq.wast", @descriptors},
    {"custom-descriptors/ref_get_desc.wast", @descriptors},
    {"custom-descriptors/struct_new_desc.wast", @descriptors},
    {"custom-page-sizes/custom-page-sizes-invalid.wast", @page_sizes},
    {"custom-page-sizes/custom-page-sizes.wast", @page_sizes},
    {"custom-page-sizes/memory_max.wast", @page_sizes},
    {"custom-page-sizes/memory_max_i64.wast", @page_sizes},
    {"memory64/memory64.wast:8", @memories},
    {"memory64/memory64.wast:9", @memories},
    {"threads/atomic.wast", @threads},
    {"wide-arithmetic/wide-arithmetic.wast", @wide}
  ]

  # The same for guests in a pool.
  @unpooled [
    {"multi-memory/address1.wast", @slots},
    {"multi-memory/exports0.wast", @slots},
    {"multi-memory/float_exprs1.wast", @slots},
    {"multi-memory/float_memory0.wast", @slots},
    {"multi-memory/memory_size0.wast", @slots},
    {"multi-memory/memory_size1.wast", @slots},
    {"wasm-latest/return_call_indirect.wast", @slots},
    {"wasm-latest/table.wast", @slots}
  ]

  setup_all do
    folder = Path.join(Mix.Project.build_path(), "conformance")
    Conformance.export!(folder)
    # Nobody else loads these modules.
    on_exit(&Runtime.clear_cache/0)
    IO.puts("\n" <> Summary.reasons(@skipped ++ @unpooled))
    {:ok, folder: folder}
  end

  test "the scripts pass with fuel", %{folder: folder} do
    run(folder, "with fuel", [])
  end

  test "the scripts pass with epochs", %{folder: folder} do
    run(folder, "with epochs", metering: :epoch)
  end

  test "the scripts pass deterministically", %{folder: folder} do
    run(folder, "deterministic", deterministic: true)
  end

  test "the scripts pass on normal schedulers", %{folder: folder} do
    run(folder, "on normal schedulers", scheduling: :inline)
  end

  test "the scripts pass in a pool", %{folder: folder} do
    run(folder, "in a pool", [max_memory: 100_000_000], @skipped ++ @unpooled)
  end

  defp run(folder, mode, opts, skipped \\ @skipped) do
    {time, summary} = :timer.tc(Conformance, :run, [folder, opts, skipped])
    seconds = Float.round(time / 1_000_000, 1)
    IO.puts(Summary.table(summary, "conformance in Elixir (#{mode}), #{seconds} s"))
    if summary.wrong != [], do: flunk(Enum.join(["these are wrong:" | summary.wrong], "\n"))
  end

  describe "the runner" do
    @echo ~S"""
    (module
      (func (export "echo") (param f32) (result f32) (local.get 0))
      (func (export "trap") unreachable))
    """

    defp echo(bits, wanted) do
      action = %{"type" => "invoke", "field" => "echo", "args" => [f32(bits)]}
      %{"type" => "assert_return", "action" => action, "expected" => [f32(wanted)]}
    end

    defp f32(bits), do: %{"type" => "f32", "value" => to_string(bits)}

    defp trap(text) do
      action = %{"type" => "invoke", "field" => "trap", "args" => []}
      %{"type" => "assert_trap", "action" => action, "text" => text}
    end

    defp failures(commands) do
      module = %{"type" => "module", "bytes" => @echo}
      commands = Enum.with_index([module | commands], &Map.put(&1, "line", &2))
      report = Script.run(%{"script" => "a/b.wast", "commands" => commands})
      Enum.map(report.commands, & &1.failure)
    end

    test "takes what is right" do
      right = [
        echo(0x8000_0000, 0x8000_0000),
        echo(0x7FC0_0000, 0x7FC0_0000),
        echo(0xFFC0_0000, 0xFFC0_0000),
        echo(0xFFC0_0000, "nan:canonical"),
        echo(0x7FA0_0000, 0x7FA0_0000),
        echo(0xFFE0_0000, "nan:arithmetic"),
        echo(0x7F80_0000, 0x7F80_0000),
        trap("unreachable")
      ]

      assert Enum.all?(failures(right), &is_nil/1)
    end

    test "finds what is wrong, down to the signs of zeros and NaNs" do
      wrong = [
        echo(0x8000_0000, 0),
        echo(0x7FC0_0000, 0xFFC0_0000),
        echo(0xFFC0_0000, 0x7FC0_0000),
        echo(0x7FC0_0001, "nan:canonical"),
        echo(0x7FA0_0000, "nan:arithmetic"),
        echo(0x7F80_0000, 0xFF80_0000),
        trap("integer overflow"),
        %{"type" => "register", "as" => "b", "name" => "nobody"},
        %{"type" => "assert_invalid", "bytes" => @echo, "text" => "type mismatch"}
      ]

      assert [nil | failures] = failures(wrong)
      assert Enum.all?(failures, &is_binary/1)
    end

    test "names a place that is skipped for nothing" do
      commands = [
        %{line: 1, kind: "module", failure: nil},
        %{line: 2, kind: "action", failure: "no"},
        %{line: 3, kind: "action", failure: "no"}
      ]

      report = %{script: "a/b.wast", commands: commands, host_calls: 0, signs: 0}
      summary = Summary.new([report], [{"a/b.wast:1", "why"}, {"a/b.wast:2", "why"}])
      assert {summary.passed, summary.skipped} == {%{"module" => 1}, %{"action" => 1}}

      assert summary.wrong == [
               "a/b.wast:3 action: no",
               "a/b.wast:1 is skipped, but passes or does not exist"
             ]
    end
  end
end
