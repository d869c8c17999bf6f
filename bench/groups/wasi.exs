defmodule Cybernetic.WASM.Bench.Wasi do
  # Commands: from a compiled module to captured output, and reading a file.

  alias Cybernetic.WASM.{Bench.Measure, Executor, Runtime, Sandbox}
  import Measure, only: [by: 2]

  @file_bytes 67_108_864

  def rows(effort) do
    {round, rounds} = by(effort, full: {60, 15}, quick: {15, 7}, tiny: {0, 1})
    bytes = by(effort, full: @file_bytes, quick: @file_bytes, tiny: 65_536)
    directory = Path.join(System.tmp_dir!(), "cybernetic_wasm_bench.#{System.pid()}.d")
    File.mkdir_p!(directory)
    File.write!(Path.join(directory, "file"), :binary.copy(<<7>>, bytes))

    rows = Measure.compare(hello() ++ reading(directory) ++ sleeping(), round, rounds)
    File.rm_rf!(directory)
    rows
  end

  defp hello do
    module = Runtime.load_module!("test/fixtures/wasi/hello.wasm")

    run = fn opts ->
      {:ok, %{exit_code: 0, stdout: "hello, world\n"}} = Executor.run(module, :start, opts)
    end

    granted = Sandbox.new(stdio: :captured)

    [
      {"hello world", fn -> run.(sandbox: granted) end},
      {"hello world, sandbox: :command", fn -> run.(sandbox: :command) end}
    ] ++ hello_of_component(granted)
  end

  defp hello_of_component(granted) do
    component = Runtime.load_module!("test/fixtures/components/wasi_calls.wasm")
    opts = [args: ["arguments", "hello"], sandbox: granted]

    [
      {"hello world of WASI 0.2",
       fn ->
         {:ok, %{exit_code: 0, stdout: "[\"hello\"]\n"}} = Executor.run(component, :start, opts)
       end}
    ]
  end

  defp reading(directory) do
    module = Runtime.load_module!("test/fixtures/wasi/checksum.wasm")
    sandbox = Sandbox.new(stdio: :captured, filesystem: [{directory, "/d", :ro}], timeout: 60_000)

    for chunk <- ["65536", "4096"] do
      {"read 64 MiB, #{chunk} bytes at a time",
       fn ->
         {:ok, %{exit_code: 0}} =
           Executor.run(module, :start, args: ["/d/file", chunk], sandbox: sandbox)
       end}
    end
  end

  # What a wake-up takes beyond the time that was asked for.
  defp sleeping do
    module = Runtime.load_module!("test/fixtures/wasi/tool.wasm")

    [
      {"sleep of 1 ms in a command",
       fn ->
         {:ok, %{exit_code: 0}} =
           Executor.run(module, :start, args: ["sleep", "1"], sandbox: :command)
       end}
    ]
  end
end
