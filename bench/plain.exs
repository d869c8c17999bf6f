defmodule Cybernetic.WASM.Bench.Plain do
  # Modules of a size: much to compile, and nothing strange.

  @doc "Functions of so many additions and multiplications, in the binary format; no two modules are the same."
  def plain({functions, steps}) do
    seed = System.unique_integer([:positive])
    step = <<0x20, 0, 0x41, 3, 0x6C, 0x41, 1, 0x6A, 0x21, 0>>

    bodies =
      for n <- 1..functions do
        body = [0, String.duplicate(step, steps), 0x41, leb(n), 0x0B]
        [leb(IO.iodata_length(body)), body]
      end

    first = [0, 0x41, 1, 0x0B]
    code = [leb(functions + 1), leb(length(first)), first, bodies]

    IO.iodata_to_binary([
      <<0, "asm", 1, 0, 0, 0>>,
      # One type for `f`, one for all others.
      section(1, [2, 0x60, 0, 1, 0x7F, 0x60, 1, 0x7F, 1, 0x7F]),
      section(3, [leb(functions + 1), 0, List.duplicate(1, functions)]),
      section(7, [1, 1, "f", 0, 0]),
      section(10, code),
      section(0, [4, "seed", <<seed::64>>])
    ])
  end

  defp section(id, content), do: [id, leb(IO.iodata_length(content)), content]

  defp leb(n) when n < 64, do: [n]
  defp leb(n), do: [Bitwise.bor(Bitwise.band(n, 0x7F), 0x80) | leb(Bitwise.bsr(n, 7))]
end
