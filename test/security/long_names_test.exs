defmodule Cybernetic.WASM.Security.LongNamesTest do
  # A guest chooses its names, and each may have as many bytes as its module: a trap with twenty frames of long names was an error
  # of a hundred megabytes, in the mailbox of whoever called it and in every log. What is in an error is cut.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Executor, Host, Instance, Memory, Run, Runtime, Sandbox}
  alias Cybernetic.WASM.Sandbox.Manifest

  # Near what WebAssembly's tools take.
  @long 90_000
  # A cut name and its sign, and the longest text with names in it.
  @most 1_100

  defp long(what), do: what <> "_" <> String.duplicate("n", @long)

  defp load!(wat) do
    {:ok, module} = Runtime.load_module({:bytes, wat})
    module
  end

  # Of a field, or of what is in it.
  defp binaries(%Run{denials: denials}), do: binaries(denials)

  defp binaries(%_{} = struct),
    do: struct |> Map.from_struct() |> Map.delete(:stacktrace) |> binaries()

  defp binaries(map) when is_map(map), do: map |> Map.to_list() |> binaries()
  defp binaries(list) when is_list(list), do: Enum.flat_map(list, &binaries/1)
  defp binaries(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> binaries()
  defp binaries(bytes) when is_binary(bytes), do: [bytes]
  defp binaries(_other), do: []

  defp small!({:error, error}) do
    binaries = binaries(error)
    assert Enum.all?(binaries, &(byte_size(&1) <= @most)), inspect(error)
    assert Enum.any?(binaries, &String.contains?(&1, "…")), inspect(error)
    assert byte_size(Exception.message(error)) < 20_000
    error
  end

  test "a trap's frames" do
    name = long("function")

    module =
      load!("""
      (module (func $"#{name}" (export "down") (param i32)
        (if (local.get 0)
          (then (call $"#{name}" (i32.sub (local.get 0) (i32.const 1))))
          (else unreachable))))
      """)

    error = small!(Executor.call(module, "down", [40]))
    assert length(error.frames) > 10
    assert String.starts_with?(hd(error.frames).name, "function_nnn")
    instance = Instance.new!(module)
    assert {:error, _trap} = Instance.call(instance, "down", [40])
    assert {:error, %{reason: :poisoned}} = Instance.call(instance, "down", [40])
  end

  test "exports of every kind" do
    module =
      load!("""
      (module
        (tag $t (export "#{long("tag")}") (param i32))
        (memory (export "#{long("memory")}") 1) (table (export "#{long("table")}") 1 funcref)
        (global (export "#{long("global")}") i32 (i32.const 0))
        (func (export "#{long("function")}"))
        (func (export "throw") (throw $t (i32.const 1))))
      """)

    instance = Instance.new!(module, on_trap: :keep)

    for result <- [
          Executor.call(module, "throw"),
          Executor.call(module, "nothing"),
          Executor.call(module, long("memory")),
          Executor.call(module, long("nothing")),
          Executor.run(module, :start),
          Instance.get_global(instance, long("nothing")),
          Instance.get_global(instance, long("table")),
          Instance.set_global(instance, long("global"), 1),
          Instance.table_size(instance, long("global")),
          Instance.table_get(instance, long("table"), 7),
          Memory.size(instance, memory: long("nothing"))
        ],
        do: small!(result)
  end

  test "imports, also those that are denied, and those that host functions answer" do
    {from, name} = {long("from"), long("name")}

    module =
      load!(~s|(module (import "#{from}" "#{name}" (func $f)) (func (export "run") (call $f)))|)

    memory = load!(~s|(module (import "#{from}" "#{name}" (memory 1)) (func (export "run")))|)
    given = &%{from => %{name => &1}}

    for {module, opts} <- [
          {module, []},
          {module, imports: given.(7)},
          {module, imports: %{from => 7}},
          {module, imports: given.(fn _ctx -> raise "no" end)},
          {module, imports: given.(&Host.trap(&1, :no))},
          {module, imports: given.(fn _ctx -> :ok end), sandbox: Sandbox.new(host_functions: [])},
          {memory, []},
          {memory, imports: given.(load!("(module)"))}
        ],
        do: small!(Executor.call(module, "run", [], opts))

    small!(Instance.new(memory, snapshottable: true))
    assert {:ok, nil} = Executor.call(module, "run", [], imports: given.(fn _ctx -> nil end))
  end

  test "what the validator and the parser say" do
    for wat <- [
          ~s|(module (func (export "#{long("twice")}")) (func (export "#{long("twice")}")))|,
          ~s|(module (func (call $"#{long("nowhere")}")))|
        ],
        do: small!(Runtime.load_module({:bytes, wat}))
  end

  test "paths in denials" do
    path = String.duplicate("p", 5_000)

    module =
      load!("""
      (module
        (import "wasi_snapshot_preview1" "path_open"
          (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 100) "../#{path}")
        (func (export "open") (result i32)
          (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 5003) (i32.const 0)
            (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0))))
      """)

    sandbox = Sandbox.new(filesystem: [scratch: "/tmp"])
    assert {:ok, %{denials: [denial]}} = Executor.run(module, "open", [], sandbox: sandbox)
    assert byte_size(denial.detail) <= 203
    assert String.ends_with?(denial.detail, "…")
  end

  test "keys and values of a manifest" do
    long = String.duplicate("k", 50_000)

    for text <- [
          "#{long} = 1",
          ~s|[module]\nname = 1\n[module.#{long}]|,
          ~s|[limits]\n#{long} = 1|,
          ~s|[limits]\nfuel = "#{long}"|,
          ~s|[capabilities]\nfilesystem = [{ host = "#{long}", guest = "/a", mode = "#{long}" }]|,
          ~s|[capabilities]\nnetwork = ["#{long} #{long}"]|
        ] do
      assert {:error, error} = Manifest.parse(text)
      assert Enum.all?(binaries(error), &(byte_size(&1) <= @most)), inspect(error)
      assert byte_size(Exception.message(error)) < 5_000
    end
  end
end
