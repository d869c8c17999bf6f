defmodule Cybernetic.WASM.HTTP.Chunks do
  @moduledoc false
  # The chunked coding (RFC 9112, 7.1), decoded from what has come, however that is cut. What is no data (extensions, which
  # mean nothing to us, and trailers) has a budget of its own over the whole body, or it could go on for ever without one
  # byte of data.

  alias Cybernetic.WASM.HTTP.{Fields, Head}

  @enforce_keys [:budget, :bounds]
  defstruct [:budget, :bounds, at: :size, trailers: []]

  @type t :: %__MODULE__{}

  # A line is looked for from its beginning, however it is cut.
  @longest_line 8_192

  # Sixteen digits are more than a file system holds. Zeros before them are no more than an attempt.
  @most_digits 15
  @extension ~r/\A[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?\z/

  @doc "The decoder of a body. `bounds` are those of a head, and hold for all that is no data."
  @spec new(map) :: t
  def new(bounds), do: %__MODULE__{budget: bounds.max_header_bytes, bounds: bounds}

  @doc "The data in what has come, and what is left over: the body's end is told by `done?/1`."
  @spec decode(t, binary) :: {:ok, data :: binary, t, rest :: binary} | {:error, String.t()}
  def decode(chunks, buffer), do: decode(chunks, buffer, [])

  @doc "Whether the body has ended."
  @spec done?(t) :: boolean
  def done?(chunks), do: chunks.at == :done

  @doc "The fields after the body."
  @spec trailers(t) :: {:ok, Fields.t()} | {:error, String.t()}
  def trailers(chunks), do: chunks.trailers |> Enum.reverse() |> Head.fields(chunks.bounds)

  defp decode(%{at: {:data, size}} = chunks, buffer, data) when byte_size(buffer) >= size do
    <<chunk::binary-size(size), rest::binary>> = buffer
    decode(%{chunks | at: :end}, rest, [data, chunk])
  end

  defp decode(%{at: {:data, size}} = chunks, buffer, data),
    do: {:ok, binary([data, buffer]), %{chunks | at: {:data, size - byte_size(buffer)}}, ""}

  defp decode(%{at: :end} = chunks, <<"\r\n", rest::binary>>, data),
    do: decode(%{chunks | at: :size}, rest, data)

  defp decode(%{at: :end} = chunks, buffer, data) when buffer in ["", "\r"],
    do: {:ok, binary(data), chunks, buffer}

  defp decode(%{at: :end}, _buffer, _data), do: {:error, "a chunk is longer than its size says"}
  defp decode(%{at: :done} = chunks, buffer, data), do: {:ok, binary(data), chunks, buffer}

  defp decode(chunks, buffer, data) do
    most = min(chunks.budget, @longest_line)

    case :binary.match(buffer, "\r\n") do
      {at, 2} when at <= most ->
        <<line::binary-size(at), "\r\n", rest::binary>> = buffer
        with {:ok, chunks} <- line(chunks, line), do: decode(chunks, rest, data)

      :nomatch when byte_size(buffer) <= most ->
        {:ok, binary(data), chunks, buffer}

      _ ->
        {:error, "more bytes around its chunks than a head may have"}
    end
  end

  defp line(%{at: :size} = chunks, line) do
    with {size, digits, beside} when digits in 1..@most_digits <- number(line, 0, 0),
         true <- beside == "" or beside =~ @extension do
      at = if size == 0, do: :trailers, else: {:data, size}
      {:ok, spend(%{chunks | at: at}, byte_size(beside))}
    else
      _ -> {:error, "a chunk's size is none"}
    end
  end

  defp line(%{at: :trailers} = chunks, ""), do: {:ok, %{chunks | at: :done}}

  defp line(%{at: :trailers} = chunks, line) do
    if length(chunks.trailers) < chunks.bounds.max_headers,
      do: {:ok, spend(%{chunks | trailers: [line | chunks.trailers]}, byte_size(line) + 2)},
      else: {:error, "more than #{chunks.bounds.max_headers} trailers"}
  end

  # Digit by digit: of a body in the smallest of chunks there is one number for each byte.
  defp number(<<digit, rest::binary>>, value, count)
       when count <= @most_digits and digit in ?0..?9,
       do: number(rest, 16 * value + digit - ?0, count + 1)

  defp number(<<digit, rest::binary>>, value, count)
       when count <= @most_digits and digit in ?a..?f,
       do: number(rest, 16 * value + digit - ?a + 10, count + 1)

  defp number(<<digit, rest::binary>>, value, count)
       when count <= @most_digits and digit in ?A..?F,
       do: number(rest, 16 * value + digit - ?A + 10, count + 1)

  defp number(rest, value, count), do: {value, count, rest}

  defp spend(chunks, bytes), do: %{chunks | budget: chunks.budget - bytes}

  defp binary([[], chunk]) when is_binary(chunk), do: chunk
  defp binary(data), do: IO.iodata_to_binary(data)
end
