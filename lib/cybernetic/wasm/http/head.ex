defmodule Cybernetic.WASM.HTTP.Head do
  @moduledoc false
  # The head of an answer, read once all of it is there. Stricter than it has to be: a line that ends in LF alone, a folded
  # field and two lengths are refused, because what two readers take differently is how one of them is deceived.

  alias Cybernetic.WASM.HTTP.Fields

  @typedoc "How a body is framed; `:none` is no body."
  @type framing :: :none | {:length, non_neg_integer} | :chunked | :until_close

  # Of a length: more digits are no body that anybody sends.
  @most_digits 15

  @doc """
  Reads a head from the beginning of what has come, of which `seen` bytes have been looked at before. `:more` if its end has not
  come yet.
  """
  @spec decode(binary, non_neg_integer, map) ::
          {:ok, 100..599, Fields.t(), rest :: binary} | :more | {:error, String.t()}
  def decode(buffer, seen, bounds) do
    # The end may lie across what came before and what came now.
    from = max(seen - 3, 0)
    new = {from, byte_size(buffer) - from}
    most = bounds.max_header_bytes

    case :binary.match(buffer, "\r\n\r\n", scope: new) do
      {at, 4} when at <= most ->
        <<head::binary-size(at), "\r\n\r\n", rest::binary>> = buffer
        parse(head, rest, bounds)

      :nomatch when byte_size(buffer) <= most ->
        if begins?(buffer) and not bare?(buffer, new),
          do: :more,
          else: {:error, "it does not begin with a status line"}

      _ ->
        {:error, "a head of more bytes than it may have (max_header_bytes)"}
    end
  end

  # Another protocol, or lines that do not end as they should, are told at once.
  defp begins?(<<"HTTP/1.", _::binary>>), do: true
  defp begins?(buffer), do: String.starts_with?("HTTP/1.", buffer)

  # A line that ends in LF alone.
  defp bare?(buffer, {from, size} = new) do
    case :binary.match(buffer, "\n", scope: new) do
      :nomatch ->
        false

      {at, 1} when at > 0 ->
        :binary.at(buffer, at - 1) != ?\r or bare?(buffer, {at + 1, from + size - at - 1})

      _first ->
        true
    end
  end

  defp parse(head, rest, bounds) do
    [line | lines] = :binary.split(head, "\r\n", [:global])

    with {:ok, status} <- status(line),
         {:ok, fields} <- fields(lines, bounds),
         do: {:ok, status, fields, rest}
  end

  defp status(<<"HTTP/1.", minor, " ", status::binary-size(3), reason::binary>>)
       when minor in '01' do
    if status =~ ~r/\A[1-5]\d\d\z/ and reason =~ ~r/\A( [^\x00-\x08\x0a-\x1f\x7f]*)?\z/,
      do: {:ok, String.to_integer(status)},
      else: {:error, "its status line is none"}
  end

  defp status(_line), do: {:error, "its status line is none"}

  @doc "Reads the lines of a head or a trailer."
  @spec fields([binary], map) :: {:ok, Fields.t()} | {:error, String.t()}
  def fields(lines, bounds) do
    if length(lines) > bounds.max_headers,
      do: {:error, "more than #{bounds.max_headers} headers"},
      else: each(lines, [])
  end

  defp each([], fields), do: {:ok, Enum.reverse(fields)}

  defp each([line | rest], fields) do
    case Fields.parse(line) do
      {:ok, field} -> each(rest, [field | fields])
      :error -> {:error, "a header line is none"}
    end
  end

  @doc "How the body of an answer is framed (RFC 9112, 6.3), which none is whose head contradicts itself."
  @spec framing(String.t(), 100..599, Fields.t()) :: {:ok, framing} | {:error, String.t()}
  def framing("HEAD", _status, _fields), do: {:ok, :none}
  def framing(_method, status, _fields) when status in [204, 304], do: {:ok, :none}

  def framing(_method, _status, fields) do
    case {Fields.values(fields, "transfer-encoding"), Fields.values(fields, "content-length")} do
      {[], []} -> {:ok, :until_close}
      {[], lengths} -> lengths |> Enum.uniq() |> stated()
      {[coding], []} -> coding(String.downcase(coding, :ascii))
      {[_ | _], []} -> {:error, "a transfer coding that is not known"}
      _both -> {:error, "both a length and a transfer coding"}
    end
  end

  defp stated([length]) do
    if length =~ ~r/\A\d{1,#{@most_digits}}\z/,
      do: {:ok, {:length, String.to_integer(length)}},
      else: {:error, "a length that is none"}
  end

  defp stated(_several), do: {:error, "several lengths"}

  defp coding("chunked"), do: {:ok, :chunked}
  defp coding(_other), do: {:error, "a transfer coding that is not known"}
end
