# What `mix wasm.bench` runs pinned to one processor: FILE for the rows, true for quick, the groups.
Code.require_file("bench.exs", __DIR__)

[file, quick | groups] = System.argv()
alias Cybernetic.WASM.Bench
rows = Bench.measure(groups, Bench.Raw.build!(), quick == "true", ", one processor")
File.write!(file, :erlang.term_to_binary(rows))
