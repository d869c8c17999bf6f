defmodule Cybernetic.WASM.HTTP.Response do
  @moduledoc """
  The answer to a request of `Cybernetic.WASM.HTTP.Client`.

    * `status` - from 200 to 599
    * `headers` - names in small letters and their values, in the order in which they came. Values are bytes, which need
      not be text.
    * `body` - all of it, or `nil` where it is read by `Cybernetic.WASM.HTTP.Client.read/1`
    * `trailers` - the fields after the body, or `nil`, likewise
    * `url` - of whom it is, after redirections, and without its query
  """

  @derive {Inspect, only: [:status, :url]}
  defstruct [:status, :url, :body, :trailers, headers: []]

  @typedoc "An answer."
  @type t :: %__MODULE__{
          status: 200..599,
          url: String.t(),
          headers: [{String.t(), binary}],
          body: binary | nil,
          trailers: [{String.t(), binary}] | nil
        }

  @doc """
  The values of a header, by its name in small letters.

      iex> response = %Cybernetic.WASM.HTTP.Response{status: 200, headers: [{"etag", "7"}, {"vary", "accept"}]}
      iex> Cybernetic.WASM.HTTP.Response.header(response, "etag")
      ["7"]
  """
  @spec header(t, String.t()) :: [binary]
  def header(%__MODULE__{headers: headers}, name), do: for({^name, value} <- headers, do: value)
end
