# What `mix wasm.bench` runs pinned to one processor: FILE for the rows, the effort, the groups.
Code.require_file("bench.exs", __DIR__)

[file, effort | groups] = System.argv()
alias Cybernetic.WASM.Bench
Bench.start()

rows =
  Bench.measure(groups, Bench.Raw.build!(), String.to_existing_atom(effort), ", one processor")

File.write!(file, :erlang.term_to_binary(rows))
