defmodule Cybernetic.WASM.HTTP.ChunksTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.HTTP.Chunks

  @bounds %{max_header_bytes: 200, max_headers: 3}

  # What comes of the body, cut into these pieces.
  defp decode(pieces), do: decode(pieces, Chunks.new(@bounds), "", "")

  defp decode(pieces, chunks, buffer, data) do
    case {Chunks.decode(chunks, buffer), pieces} do
      {{:error, why}, _} ->
        {:error, why}

      {{:ok, more, chunks, rest}, [piece | pieces]} ->
        decode(pieces, chunks, rest <> piece, data <> more)

      {{:ok, more, chunks, rest}, []} ->
        {data <> more, Chunks.done?(chunks), Chunks.trailers(chunks), rest}
    end
  end

  defp cut("", _most), do: []

  defp cut(text, most) do
    size = min(:rand.uniform(most), byte_size(text))
    <<piece::binary-size(size), rest::binary>> = text
    [piece | cut(rest, most)]
  end

  test "give the same however they are cut" do
    :rand.seed(:exsss, {1, 2, 3})

    for _ <- 1..500 do
      parts = for _ <- 1..:rand.uniform(8), do: :rand.bytes(:rand.uniform(40))
      extension = Enum.random(["", ";a", " ;a=\"b\"", "  "])

      coded =
        for part <- parts,
            do: [Integer.to_string(byte_size(part), 16), extension, "\r\n", part, "\r\n"]

      text = IO.iodata_to_binary([coded, "0", extension, "\r\nA: 1\r\nb: 2\r\n\r\nrest"])
      whole = {Enum.join(parts), true, {:ok, [{"a", "1"}, {"b", "2"}]}, "rest"}
      for most <- [1, 3, 20, 1_000], do: assert(text |> cut(most) |> decode() == whole)
    end
  end

  test "end with the last one alone" do
    for text <- [
          "",
          "5",
          "5\r\n",
          "5\r\nhel",
          "5\r\nhello",
          "5\r\nhello\r",
          "5\r\nhello\r\n",
          "0\r\n",
          "0\r\na: 1\r\n"
        ],
        do: assert({_, false, _, _} = decode([text]))
  end

  test "whose sizes are none are refused" do
    for size <- [
          "",
          "x",
          "-5",
          "+5",
          "0x5",
          " 5",
          "5 5",
          "5,",
          "1000000000000000",
          "5\n",
          "5\r",
          ";",
          "５",
          "5;\0"
        ],
        do: assert({^size, {:error, _}} = {size, decode([size <> "\r\nhello\r\n0\r\n\r\n"])})
  end

  test "that are longer or shorter than they say are refused" do
    assert {:error, _} = decode(["4\r\nhello\r\n0\r\n\r\n"])
    assert {:error, _} = decode(["6\r\nhello\r\n0\r\n\r\n"])
  end

  test "have no more beside the data than a head may have" do
    endless = List.duplicate("1;" <> String.duplicate("x", 30) <> "\r\n.\r\n", 10)
    assert {:error, why} = decode(endless)
    assert why =~ "around its chunks"

    assert {:error, _} =
             decode(List.duplicate("1" <> String.duplicate(" ", 30) <> "\r\n.\r\n", 10))

    assert {:error, _} = decode(["1;" <> String.duplicate("x", 201)])

    assert {:error, _} =
             decode(["0\r\n" | List.duplicate("a: " <> String.duplicate("x", 90) <> "\r\n", 3)])

    assert {:error, _} = decode(["0\r\n" | List.duplicate("a: 1\r\n", 4)])
    assert {_, true, {:ok, [_, _, _]}, ""} = decode(["0\r\na: 1\r\na: 1\r\na: 1\r\n\r\n"])
    # The sizes themselves are no more than the data is worth.
    assert {data, true, _, ""} = decode(List.duplicate("1\r\n.\r\n", 1_000) ++ ["0\r\n\r\n"])
    assert byte_size(data) == 1_000
  end

  test "that are rubbish are refused or wanted more of, and nothing is raised" do
    :rand.seed(:exsss, {4, 5, 6})
    good = "5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nA: 1\r\n\r\n"

    for _ <- 1..2_000 do
      case good |> mutated() |> cut(20) |> decode() do
        {:error, why} -> assert is_binary(why)
        {data, _done?, _trailers, _rest} -> assert is_binary(data)
      end
    end
  end

  # With some bytes changed, left out, or there twice.
  defp mutated(text) do
    Enum.reduce(1..:rand.uniform(4), text, fn _, text ->
      at = :rand.uniform(byte_size(text)) - 1
      <<before::binary-size(at), byte, rest::binary>> = text

      middle =
        Enum.random(["", <<byte, byte>>, <<:rand.uniform(256) - 1>>, "\r\n", ";", "\n", "0"])

      before <> middle <> rest <> "x"
    end)
  end

  test "have trailers that are fields" do
    for line <- ["a", ": 1", "a: \0", " folded: 1"],
        do: assert({_, true, {:error, _}, _} = decode(["0\r\n#{line}\r\n\r\n"]))
  end
end
