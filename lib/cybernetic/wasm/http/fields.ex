defmodule Cybernetic.WASM.HTTP.Fields do
  @moduledoc false
  # Header and trailer fields: names in small letters, values without blanks around them. What is given here may come from a
  # guest or from a server, and a line break in it would begin a field, or a message, of their making.

  @type t :: [{name :: String.t(), value :: String.t()}]

  @name ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/
  # Blanks and tabs are the only control characters in a value.
  @value ~r/\A[\t\x20-\x7e\x80-\xff]*\z/

  # How a message is framed and where it goes is said by the client alone.
  @own ~w(host connection keep-alive proxy-connection te trailer transfer-encoding upgrade expect http2-settings)

  # What has to be known before a body is read cannot come behind it (RFC 9110, 6.5.1). Who forwards a message may put trailers
  # among its headers, where these would say how it is framed, where it goes, or who has sent it.
  @ahead ~w(content-length content-type content-encoding content-range content-location) ++
           ~w(authorization proxy-authorization www-authenticate proxy-authenticate cookie set-cookie) ++
           ~w(forwarded x-forwarded-for x-forwarded-host x-forwarded-proto via max-forwards) ++
           ~w(cache-control pragma range if-match if-none-match if-modified-since if-unmodified-since if-range)

  @doc "Checks the fields behind a body. Those that belong before it are refused."
  @spec check_trailers(term, map) :: {:ok, t} | {:error, String.t()}
  def check_trailers(fields, bounds) do
    with {:ok, fields} <- check(fields, bounds) do
      case Enum.find(fields, fn {name, _value} -> name in @ahead end) do
        nil -> {:ok, fields}
        {name, _value} -> {:error, "#{name} is a header, and cannot be a trailer"}
      end
    end
  end

  @doc "The fields without those that say how a message is framed and where it goes: they are a connection's own."
  @spec without_own(term) :: term
  def without_own(fields) when is_list(fields) and length(fields) >= 0,
    do: Enum.reject(fields, &own?/1)

  def without_own(other), do: other

  defp own?({name, _value}) when is_binary(name), do: String.downcase(name, :ascii) in @own
  defp own?(_other), do: false

  @doc "Checks the fields of a request, or says what is wrong with them: never what they hold."
  @spec check(term, map) :: {:ok, t} | {:error, String.t()}
  def check(fields, bounds) when is_list(fields) do
    with {:ok, fields} <- each(fields, []), do: measure(fields, bounds)
  end

  def check(_fields, _bounds), do: {:error, "the headers are no list of names and values"}

  defp each([], checked), do: {:ok, Enum.reverse(checked)}

  defp each([{name, value} | rest], checked) when is_binary(name) and is_binary(value) do
    lower = String.downcase(name, :ascii)

    cond do
      not (name =~ @name) ->
        {:error, "a header's name is none"}

      lower in @own ->
        {:error, "the header #{lower} is the client's own"}

      not (value =~ @value) ->
        {:error, "the value of #{lower} has a line break or another control character in it"}

      true ->
        each(rest, [{lower, trim(value)} | checked])
    end
  end

  defp each(_other, _checked), do: {:error, "a header is a name and a value, both of them texts"}

  defp measure(fields, bounds) do
    bytes =
      for {name, value} <- fields,
          reduce: 0,
          do: (sum -> sum + byte_size(name) + byte_size(value) + 4)

    cond do
      length(fields) > bounds.max_headers ->
        {:error, "more than #{bounds.max_headers} headers"}

      bytes > bounds.max_header_bytes ->
        {:error, "headers of more than #{bounds.max_header_bytes} bytes"}

      true ->
        {:ok, fields}
    end
  end

  @doc "Reads one line of a head, without its end."
  @spec parse(binary) :: {:ok, {String.t(), String.t()}} | :error
  def parse(line) do
    with [name, value] <- :binary.split(line, ":"),
         true <- name =~ @name and value =~ @value do
      {:ok, {String.downcase(name, :ascii), trim(value)}}
    else
      _ -> :error
    end
  end

  # Byte for byte, since a value need not be UTF-8, and without a pattern, which would look at a row of blanks from each of them.
  defp trim(<<blank, rest::binary>>) when blank in ' \t', do: trim(rest)
  defp trim(value), do: binary_part(value, 0, text_size(value, byte_size(value)))

  defp text_size(value, size) when size > 0 do
    if :binary.at(value, size - 1) in ' \t', do: text_size(value, size - 1), else: size
  end

  defp text_size(_value, 0), do: 0

  @doc "All values of a field."
  @spec values(t, String.t()) :: [String.t()]
  def values(fields, name), do: for({^name, value} <- fields, do: value)

  @doc "The fields, as they are sent."
  @spec lines(t) :: iolist
  def lines(fields), do: for({name, value} <- fields, do: [name, ": ", value, "\r\n"])
end
