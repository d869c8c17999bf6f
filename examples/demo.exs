# The main job on real guests: SHA-256 (written in Rust) and a word count (written in C) over a file that is passed in
# memory, the same word count as a program of its own that is granted the file's folder, then an endless loop that its fuel ends.
#
#     mix run examples/demo.exs [FILE]

alias Cybernetic.WASM.{Executor, Host, Runtime, Sandbox}

path = List.first(System.argv()) || "LICENSE"

input =
  case File.read(path) do
    {:ok, bytes} ->
      bytes

    {:error, reason} ->
      IO.puts(:stderr, "demo: cannot read #{path}: #{:file.format_error(reason)}")
      System.halt(2)
  end

# The guests ask for the input piece by piece and hand their output over.
read = fn ctx, pointer, length, offset ->
  piece = binary_part(input, offset, length |> min(byte_size(input) - offset) |> max(0))
  :ok = Host.write(ctx, pointer, piece)
  byte_size(piece)
end

write = fn ctx, pointer, length ->
  {:ok, bytes} = Host.read(ctx, pointer, length)
  Host.emit(ctx, bytes)
end

opts = [
  imports: %{"env" => %{"read" => read, "write" => write}},
  fuel: 100_000_000_000,
  timeout: 60_000
]

report = fn label, usage ->
  IO.puts("  #{label}")

  IO.puts(
    "    #{usage.fuel} fuel, #{usage.peak_memory} bytes of memory, " <>
      "#{round(usage.wall_time)} microseconds (#{round(usage.slice_time)} of them in the guest), " <>
      "#{usage.slices} slice(s), #{usage.host_calls} host call(s)"
  )
end

IO.puts("\n#{path}, #{byte_size(input)} bytes\n")

for {guest, function} <- [{"digest", "sha256"}, {"wordcount", "word_count"}] do
  module = Runtime.load_module!("priv/wasm/#{guest}.wasm")
  run = Executor.run!(module, function, [], opts)
  IO.puts("#{guest}.wasm, #{function}() = #{run.result}")
  report.(String.trim(run.output), run.usage)
end

folder = path |> Path.expand() |> Path.dirname()
sandbox = Sandbox.new(stdio: :captured, filesystem: [{folder, "/input", :ro}], timeout: 60_000)
wc = Runtime.load_module!("priv/wasm/wc.wasm")
file = "/input/" <> Path.basename(path)
run = Executor.run!(wc, :start, args: [file, "/input/../secret"], sandbox: sandbox)
IO.puts("wc.wasm #{file} /input/../secret, exit code #{run.exit_code}")
report.(String.trim(run.stdout), run.usage)
IO.puts("    " <> String.trim(run.stderr))

compute = Runtime.load_module!("priv/wasm/compute.wasm")
{:error, error} = Executor.run(compute, "spin", [], fuel: 10_000_000)
IO.puts("compute.wasm, spin() with 10,000,000 fuel")
report.(Exception.message(error), error.usage)
