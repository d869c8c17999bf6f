defmodule Cybernetic.WASM.HTTPError do
  @moduledoc """
  An HTTP request got no answer that can be used, from a server (`Cybernetic.WASM.HTTP.Client`) or from a component
  (`Cybernetic.WASM.HTTP`).

  An answer with a status of 400 or more is an answer, and no such error.

  ## Reasons

    * `:invalid` - the request cannot be sent: its URL, method, headers or body; `detail` says what is wrong
    * `:insecure` - an `http:` URL, where `https:` alone is allowed
    * `:denied` - the network rules do not allow the peer; `detail` says why
    * `:unresolved` - the name has no address
    * `:unreachable` - no connection was made; `detail` has the operating system's word
    * `:tls` - the handshake failed, or the certificate is not trusted, has expired or is for another name; `detail` has
      the alert
    * `:timeout` - the time was over; `during` is `:resolve`, `:connect`, `:send` or `:receive`
    * `:protocol` - what came is not HTTP/1.1, or its head is beyond the bounds; `detail` says what
    * `:too_large` - a body of `size` bytes, as far as they are known, where `allowed` are the ceiling
    * `:truncated` - the connection ended before the message did
    * `:redirect` - a redirection that is not followed, of an answer with `status`; `detail` says why
    * `:no_answer` - the component returned without an answer
    * `:refused` - the component answered with an error code; `detail` has it, in the component's words
    * `:unfinished` - the component has not ended the body of its answer

  `url` is the one that was asked last, without its query, which may hold a secret. No header, nor what came in one, is in
  any field. `blame` is `:node` for what may go well a little later (`:unresolved`, `:unreachable`, `:timeout`,
  `:truncated`), `:guest` for what a component does, which then have `usage` and `run`, and `:caller` otherwise.
  """

  alias Cybernetic.WASM.Shown

  defexception [
    :reason,
    :url,
    :detail,
    :during,
    :status,
    :size,
    :allowed,
    :usage,
    :run,
    blame: :caller
  ]

  @typedoc "Why there is no answer."
  @type t :: %__MODULE__{
          reason: atom,
          url: String.t() | nil,
          detail: String.t() | nil,
          during: :resolve | :connect | :send | :receive | nil,
          status: 300..399 | nil,
          size: non_neg_integer | nil,
          allowed: pos_integer | nil,
          usage: Cybernetic.WASM.Usage.t() | nil,
          run: Cybernetic.WASM.Run.t() | nil,
          blame: :caller | :guest | :node
        }

  @passing [:unresolved, :unreachable, :timeout, :truncated]

  @doc false
  @spec new(atom, keyword) :: t
  def new(reason, facts \\ []) do
    blame = if reason in @passing, do: :node, else: :caller
    struct!(__MODULE__, [reason: reason, blame: blame] ++ facts)
  end

  @impl true
  def message(%__MODULE__{blame: :guest} = error), do: "no answer: #{why(error)}"
  def message(%__MODULE__{url: nil} = error), do: "cannot send the request: #{why(error)}"
  def message(%__MODULE__{} = error), do: "no answer from #{error.url}: #{why(error)}"

  defp why(%{reason: :invalid} = error), do: error.detail

  defp why(%{reason: :insecure}),
    do: "http: is not encrypted and not allowed: use https:, or give allow_http: true"

  defp why(%{reason: :denied} = error), do: error.detail
  defp why(%{reason: :unresolved}), do: "the name has no address"
  defp why(%{reason: :unreachable} = error), do: "no connection (#{error.detail})"
  defp why(%{reason: :tls} = error), do: "TLS failed (#{error.detail})"
  defp why(%{reason: :timeout} = error), do: "the time was over #{during(error.during)}"
  defp why(%{reason: :protocol} = error), do: "not HTTP/1.1 as it should be: #{error.detail}"
  defp why(%{reason: :truncated}), do: "the connection ended before the message did"

  defp why(%{reason: :no_answer}), do: "the component returned without one"

  defp why(%{reason: :refused} = error),
    do: "the component answered with an error: #{error.detail}"

  defp why(%{reason: :unfinished}), do: "the component has not ended its body"

  defp why(%{reason: :redirect} = error),
    do: "its redirection (status #{error.status}) is not followed: #{error.detail}"

  defp why(%{reason: :too_large} = error),
    do: "a body of #{size(error.size)}, at most #{Shown.number(error.allowed)} are allowed"

  defp size(nil), do: "more bytes"
  defp size(size), do: "#{Shown.number(size)} bytes"

  defp during(:resolve), do: "while the name was looked up"
  defp during(:connect), do: "while the connection was made"
  defp during(:send), do: "while the request was sent"
  defp during(:receive), do: "while the answer was awaited"
end
