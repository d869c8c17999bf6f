defmodule Mix.Tasks.Wasm.InspectTest do
  # Not async: standard error is the whole VM's.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Terminal

  @moduletag :tmp_dir

  @everything ~S"""
  (module
    (import "env" "log" (func (param i32 i64)))
    (import "env" "memory" (memory 1 2))
    (memory (export "wide") i64 0)
    (table (export "table") 1 10 funcref)
    (global (export "constant") i32 (i32.const 1))
    (global (export "variable") (mut f64) (f64.const 1))
    (tag (export "tag") (param i32))
    (func (export "two words") (param v128 externref) (result f32 funcref) unreachable)
    (@custom "notes" "12345"))
  """

  setup context do
    file = Path.join(context.tmp_dir, "everything.wat")
    File.write!(file, @everything)
    {:ok, guest: file}
  end

  test "shows types in the text format's words", %{guest: file} do
    assert {0, output, ""} = run("wasm.inspect", [file])

    assert output =~ """
           imports: 2
             "env" "log" (func (param i32 i64))
             "env" "memory" (memory 1 2)
           exports: 6
             "wide" (memory i64 0)
             "table" (table 1 10 funcref)
             "constant" (global i32)
             "variable" (global (mut f64))
             "tag" (tag (param i32))
             "two words" (func (param v128 externref) (result f32 funcref))
           memories: 2
             "memory" 65536 bytes, at most 131072
             "wide" 0 bytes, no maximum of its own
           """

    assert output =~ ~s(  "notes" 5 bytes\n)
    assert output =~ "file: #{file}\nsize: #{byte_size(@everything)} bytes\ndigest: blake3:"
  end

  test "says what is not there" do
    assert {0, output, ""} = run("wasm.inspect", ["-"], "(module)")
    for title <- ~w(imports exports memories), do: assert(output =~ "#{title}: none\n")
  end

  test "gives the same as JSON", %{guest: file} do
    assert {0, output, ""} = run("wasm.inspect", [file, "--json"])

    assert String.starts_with?(
             output,
             ~s({"file":"#{file}","size":#{byte_size(@everything)},"digest":"blake3:)
           )

    assert output =~
             ~s({"module":"env","name":"log","type":{"kind":"function","params":["i32","i64"],"results":[]}})

    assert output =~
             ~s({"name":"wide","type":{"kind":"memory","index":"i64","maximum":null,"minimum":0,"page_size":65536}})

    assert output =~ ~s({"name":"tag","type":{"kind":"tag","params":["i32"]}})
    assert output =~ ~s("custom_sections":[{"name":"notes","size":5})
  end

  test "tells mistakes, as JSON where that is asked for" do
    assert {2, "", "mix wasm.inspect: cannot load nope: no such file\n"} =
             run("wasm.inspect", ["nope"])

    assert {2, ~s({"error":{"kind":"load",) <> _, ""} = run("wasm.inspect", ["nope", "--json"])
    assert {2, "", message} = run("wasm.inspect", [])
    assert message =~ "FILE is missing\nusage: mix wasm.inspect FILE [--json]"
    assert {2, "", message} = run("wasm.inspect", ["a", "b"])
    assert message =~ "one FILE is expected, got: a b"
  end
end
