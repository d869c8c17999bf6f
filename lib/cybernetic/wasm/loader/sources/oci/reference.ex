defmodule Cybernetic.WASM.Loader.Sources.OCI.Reference do
  @moduledoc false
  # `host[:port]/repository[:tag][@sha256:…]`, by the grammar of the OCI distribution specification. There is no default host and
  # no default tag: what is loaded is what somebody wrote.

  @enforce_keys [:host, :repository, :tag, :digest]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          host: String.t(),
          repository: String.t(),
          tag: String.t() | nil,
          digest: String.t() | nil
        }

  @longest 500
  @host "(?:[A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(?::\\d{1,5})?"
  @part "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*"
  @tag "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
  @reference Regex.compile!(
               "\\A(#{@host})/(#{@part}(?:/#{@part})*)(?::(#{@tag}))?(?:@(sha256:[0-9a-f]{64}))?\\z"
             )

  @doc "Reads a reference, or says what is wrong with it."
  @spec parse(String.t()) :: {:ok, t} | {:error, String.t()}
  def parse(text) when byte_size(text) <= @longest do
    case Regex.run(@reference, text, capture: :all_but_first) do
      [_host, _repository] ->
        {:error, "a tag or a digest is missing: host/repository:tag, or …@sha256:…"}

      [host, repository, tag] ->
        {:ok, new(host, repository, tag, nil)}

      [host, repository, "", digest] ->
        {:ok, new(host, repository, nil, digest)}

      [host, repository, tag, digest] ->
        {:ok, new(host, repository, tag, digest)}

      nil ->
        {:error, unlike(text)}
    end
  end

  def parse(_text), do: {:error, "it has more than #{@longest} bytes"}

  defp unlike(text) do
    scheme = if text =~ "://", do: ", without oci:// or https:// before it", else: ""

    "expected is host/repository:tag or host/repository@sha256:… with 64 digits, in small letters#{scheme}"
  end

  defp new(host, repository, tag, digest),
    do: %__MODULE__{
      host: String.downcase(host, :ascii),
      repository: repository,
      tag: tag,
      digest: digest
    }

  @doc "What a registry knows it by: the digest, where there is one."
  @spec key(t) :: String.t()
  def key(%__MODULE__{digest: nil, tag: tag}), do: tag
  def key(%__MODULE__{digest: digest}), do: digest

  @doc "The reference in its one spelling."
  @spec text(t) :: String.t()
  def text(reference) do
    tag = if reference.tag, do: ":" <> reference.tag, else: ""
    digest = if reference.digest, do: "@" <> reference.digest, else: ""
    "#{reference.host}/#{reference.repository}#{tag}#{digest}"
  end
end
