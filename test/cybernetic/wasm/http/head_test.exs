defmodule Cybernetic.WASM.HTTP.HeadTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.HTTP.{Fields, Head}

  @bounds %{max_header_bytes: 200, max_headers: 3}

  test "is read once it is there, whatever follows" do
    text = "HTTP/1.1 200 OK\r\nA: 1\r\nb:\t2 \r\n\r\n"

    for size <- 0..(byte_size(text) - 1),
        do: assert(Head.decode(binary_part(text, 0, size), 0, @bounds) == :more)

    assert Head.decode(text <> "rest", 0, @bounds) == {:ok, 200, [{"a", "1"}, {"b", "2"}], "rest"}
    assert Head.decode("HTTP/1.0 599 \r\n\r\n", 0, @bounds) == {:ok, 599, [], ""}
    assert Head.decode("HTTP/1.1 200\r\n\r\n", 0, @bounds) == {:ok, 200, [], ""}
  end

  test "is read however it comes" do
    text = "HTTP/1.1 200 OK\r\nA: 1\r\n\r\n"

    for size <- 0..byte_size(text), seen <- 0..size do
      expected = if size == byte_size(text), do: {:ok, 200, [{"a", "1"}], ""}, else: :more

      if seen < byte_size(text),
        do: assert(Head.decode(binary_part(text, 0, size), seen, @bounds) == expected)
    end

    bare = "HTTP/1.1 200 OK\r\nA: 1\nb: 2"
    for seen <- 0..21, do: assert({:error, _} = Head.decode(bare, seen, @bounds))
  end

  test "that is none is refused as soon as that is seen" do
    for text <- [
          "x",
          "SSH-2.0-OpenSSH\r\n",
          "http/1.1 200 OK\r\n\r\n",
          "HTTP/2.0 200 OK\r\n\r\n",
          "HTTP/1.2 200 OK\r\n\r\n",
          "HTTP/1.1 20 OK\r\n\r\n",
          "HTTP/1.1 2000 OK\r\n\r\n",
          "HTTP/1.1 099 OK\r\n\r\n",
          "HTTP/1.1 600 OK\r\n\r\n",
          "HTTP/1.1 +20 OK\r\n\r\n",
          "HTTP/1.1  200 OK\r\n\r\n",
          "HTTP/1.1 200 O\0K\r\n\r\n",
          "HTTP/1.1 200 OK\na: 1\n\n",
          "HTTP/1.1 200 OK\r\na: 1\nb: 2\r\n\r\n",
          "HTTP/1.1 200 OK\r\na: 1\rb: 2\r\n\r\n",
          "HTTP/1.1 200 OK\r\na: 1\r\n folded\r\n\r\n",
          "HTTP/1.1 200 OK\r\na : 1\r\n\r\n",
          "HTTP/1.1 200 OK\r\n: 1\r\n\r\n",
          "HTTP/1.1 200 OK\r\na\r\n\r\n",
          "HTTP/1.1 200 OK\r\nä: 1\r\n\r\n",
          "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
          "HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n\r\n",
          "HTTP/1.1 200 OK\r\na: " <> String.duplicate("x", 200)
        ],
        do: assert({^text, {:error, _}} = {text, Head.decode(text, 0, @bounds)})
  end

  test "that is rubbish is refused or wanted more of, and nothing is raised" do
    :rand.seed(:exsss, {1, 2, 3})
    good = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nb: \t2\r\n\r\n"

    for _ <- 1..3_000 do
      at = :rand.uniform(byte_size(good)) - 1
      <<before::binary-size(at), byte, rest::binary>> = good

      middle =
        Enum.random(["", <<byte, byte>>, <<:rand.uniform(256) - 1>>, "\r\n", ":", "\n", "\r", " "])

      case Head.decode(before <> middle <> rest, 0, @bounds) do
        {:ok, status, fields, _rest} when status in 100..599 ->
          for {name, value} <- fields, do: refute(name <> value =~ ~r/[\r\n\0]/)
          assert {kind, _} = Head.framing("GET", status, fields)
          assert kind in [:ok, :error]

        other ->
          assert other == :more or match?({:error, _}, other)
      end
    end
  end

  test "says how its body is framed" do
    for {method, status, fields, framing} <- [
          {"GET", 200, [], :until_close},
          {"GET", 200, [{"content-length", "0"}], {:length, 0}},
          {"GET", 200, [{"content-length", "12"}, {"content-length", "12"}], {:length, 12}},
          {"GET", 200, [{"transfer-encoding", "CHUNKED"}], :chunked},
          {"HEAD", 200, [{"content-length", "12"}], :none},
          {"GET", 204, [{"content-length", "12"}], :none},
          {"GET", 304, [{"transfer-encoding", "chunked"}], :none},
          {"HEAD", 200, [{"content-length", "x"}], :none}
        ],
        do: assert(Head.framing(method, status, fields) == {:ok, framing})
  end

  test "that contradicts itself is refused" do
    for fields <- [
          [{"content-length", "1"}, {"content-length", "2"}],
          [{"content-length", "1, 1"}],
          [{"content-length", "-1"}],
          [{"content-length", "+1"}],
          [{"content-length", "0x10"}],
          [{"content-length", ""}],
          [{"content-length", "1 1"}],
          [{"content-length", String.duplicate("9", 16)}],
          [{"transfer-encoding", "gzip"}],
          [{"transfer-encoding", "gzip, chunked"}],
          [{"transfer-encoding", "chunked"}, {"transfer-encoding", "chunked"}],
          [{"transfer-encoding", "identity"}],
          [{"transfer-encoding", "chunked"}, {"content-length", "1"}]
        ],
        do: assert({^fields, {:error, _}} = {fields, Head.framing("GET", 200, fields)})
  end

  test "has fields without the blanks around them, however many there are" do
    blanks = String.duplicate(" \t", 100_000)

    assert Fields.parse("a:" <> blanks <> "b" <> blanks <> "c" <> blanks) ==
             {:ok, {"a", "b" <> blanks <> "c"}}

    assert Fields.parse("a:" <> blanks) == {:ok, {"a", ""}}
  end
end
