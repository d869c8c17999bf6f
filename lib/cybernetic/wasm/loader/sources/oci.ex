defmodule Cybernetic.WASM.Loader.Sources.OCI do
  @moduledoc false
  # An artifact in an OCI registry: `{:oci, "host/repository:tag"}`, `{:oci, "…@sha256:…"}`, or with options:
  # `{:oci, reference, username: …}`. A tag may be moved, so that a load wants a pin; a digest is the pin. The manifest is held to the
  # reference's digest, and the layer to the manifest's.

  @behaviour Cybernetic.WASM.Loader.Source

  alias Cybernetic.WASM.HTTP.URL
  alias Cybernetic.WASM.{Digest, HTTPError, LoadError, Options}
  alias Cybernetic.WASM.Loader.{Download, Source}
  alias Cybernetic.WASM.Loader.Sources.OCI.{Manifest, Reference, Token}

  @options [
    username: {:unshown, {"a text", &is_binary/1}},
    password: {:unshown, {"a text", &is_binary/1}},
    realm: {"the URL of the registry's token service", &is_binary/1},
    plain: :boolean,
    http: {:unshown, {"a keyword list of HTTP options", &Keyword.keyword?/1}}
  ]

  @impl true
  def fetch(given, opts) do
    {text, own} = given!(given)

    with {:ok, reference} <- reference(text),
         session = session(reference, own, opts),
         {:ok, manifest, session} <- session |> manifest(reference) |> next_step(session),
         {:ok, layer} <- Manifest.layer(manifest),
         :ok <- fits(layer, opts),
         {:ok, bytes} <- layer(session, layer),
         do: {:ok, bytes, %{digests: %{sha256: layer.digest}}}
  end

  defp given!({text, own}) when is_binary(text),
    do: {text, Options.check!(own, @options, "option of an {:oci, reference, options}")}

  defp given!(text) when is_binary(text), do: {text, %{}}

  defp given!(_other),
    do:
      raise(
        ArgumentError,
        "{:oci, reference} or {:oci, reference, options} expected, with a reference that is a text"
      )

  defp reference(text) do
    with {:error, why} <- Reference.parse(text) do
      detail =
        ~s(no OCI reference: #{why}; expected is {:oci, "registry.example.com/acme/resize:1.2"})

      {:error, %LoadError{reason: :fetch_failed, detail: detail}}
    end
  end

  # What could let it through.
  defp next_step({:error, %LoadError{status: status} = error}, %{credentials: nil})
       when status in [401, 403],
       do: more(error, "credentials go along as {:oci, reference, username: …, password: …}")

  defp next_step({:error, %LoadError{cause: %HTTPError{reason: :tls}} = error}, _session),
    do: more(error, "a registry without TLS is {:oci, reference, plain: true}")

  defp next_step({:error, %LoadError{cause: %HTTPError{reason: :unresolved}} = error}, _session),
    do: more(error, "a reference begins with the host of its registry")

  defp next_step(result, _session), do: result

  defp more(error, hint), do: {:error, %{error | detail: "#{error.detail}; #{hint}"}}

  # What all requests of one fetch have in common.
  defp session(reference, own, opts) do
    scheme = if own[:plain], do: "http", else: "https"
    http = Download.options(opts.http, Map.get(own, :http, []), opts.deadline)
    http = if own[:plain], do: Keyword.put(http, :allow_http, true), else: http
    base = "#{scheme}://#{reference.host}/v2/#{reference.repository}"

    %{
      base: base,
      repository: reference.repository,
      credentials: if(own[:username], do: {own.username, Map.get(own, :password, "")}),
      trusted: origins([base, own[:realm]]),
      # A layer has its digest, and JSON that is cut is none.
      asked: %{url: base, headers: [], max_size: opts.max_size, pinned: true, http: http}
    }
  end

  defp origins(urls), do: for(url <- urls, {:ok, url} <- [URL.parse(url)], do: URL.origin(url))

  defp manifest(session, reference) do
    asked = %{
      session.asked
      | url: "#{session.base}/manifests/#{Reference.key(reference)}",
        max_size: Manifest.longest()
    }

    with {:ok, text, session} <-
           authorized(session, %{asked | headers: [{"accept", Manifest.kind()}]}),
         :ok <- verified(text, reference.digest),
         do: {:ok, text, session}
  end

  # A registry says with status 401 what it wants, and is asked once more. What it then takes is good for the layer, too.
  defp authorized(session, asked) do
    with {:other, %{status: 401} = response} <- Download.ask(asked),
         {:ok, authorization} <- Token.authorization(response, session) do
      header = {"authorization", authorization}
      session = put_in(session.asked.headers, [header])

      with {:ok, text} <- Download.get(%{asked | headers: [header | asked.headers]}),
           do: {:ok, text, session}
    else
      {:ok, text, _response} -> {:ok, text, session}
      {:other, response} -> {:error, Download.refused(response)}
      error -> error
    end
  end

  defp fits(%{size: size}, %{max_size: most}) when size <= most, do: :ok
  defp fits(%{size: size}, opts), do: {:error, Source.too_large(size, opts)}

  defp layer(session, layer) do
    asked = %{
      session.asked
      | url: "#{session.base}/blobs/#{layer.digest}",
        max_size: max(layer.size, 1)
    }

    with {:ok, bytes} <- Download.get(asked),
         :ok <- verified(bytes, layer.digest),
         do: {:ok, bytes}
  end

  # A tag has none.
  defp verified(_bytes, nil), do: :ok

  defp verified(bytes, digest) do
    case bytes |> Digest.of(:sha256) |> Digest.to_text() do
      ^digest ->
        :ok

      found ->
        {:error,
         %LoadError{reason: :digest_mismatch, pin: :reference, expected: digest, found: found}}
    end
  end

  @impl true
  def describe(given) do
    {text, _own} = given!(given)

    case Reference.parse(text) do
      {:ok, reference} -> Reference.text(reference)
      {:error, _why} -> "an OCI reference"
    end
  end

  @impl true
  def name(given) do
    {text, _own} = given!(given)

    with {:ok, reference} <- Reference.parse(text),
         do: Path.basename(reference.repository),
         else: (_ -> nil)
  end

  # Of one that names a digest as well, the tag is what an operator may have written.
  @impl true
  def pinned_as(given) do
    {text, _own} = given!(given)

    case Reference.parse(text) do
      {:ok, %Reference{tag: tag} = reference} when tag != nil ->
        [Reference.text(%{reference | digest: nil})]

      _none ->
        []
    end
  end

  # What is no reference is refused for that, by who fetches it.
  @impl true
  def mutable?(given) do
    {text, _own} = given!(given)
    match?({:ok, %Reference{digest: nil}}, Reference.parse(text))
  end

  @impl true
  def remote?(_given), do: true
end
