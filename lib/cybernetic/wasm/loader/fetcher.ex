defmodule Cybernetic.WASM.Loader.Fetcher do
  @moduledoc false
  # Reads what a load needs: the manifest and the signature that lie beside a module, and the module itself. What cannot be taken
  # anyway is not read.

  alias Cybernetic.WASM.{Error, LoadError, ManifestError, RegularFile, Shown}
  alias Cybernetic.WASM.Loader.{Fetched, Pins, Request, Signature, Source, Sources}
  alias Cybernetic.WASM.Sandbox.Manifest

  # What a manifest is called beside its module.
  @manifest "module.toml"
  @of_component "Component.toml"
  @several "Component.toml is there as well: say with manifest: which of them it is"

  @doc "Reads it."
  @spec fetch(Request.t()) :: {:ok, Fetched.t()} | {:error, Error.t()}
  def fetch(%Request{source: %Fetched{} = fetched} = request),
    do: complete(fetched, %{request | source: fetched.origin})

  def fetch(%Request{} = request) do
    with {:ok, manifest} <- own_manifest(request),
         pins = Request.pins(request, [], manifest),
         :ok <- pinned(request, pins),
         {:ok, bytes, facts} <- bytes(request, pins),
         {:ok, manifest} <- manifest(request, manifest, facts),
         {:ok, signature} <- signature(request, facts),
         do:
           {:ok, fetched(request, {bytes, facts}, pins, manifest: manifest, signature: signature)}
  end

  defp fetched(request, {bytes, facts}, pins, manifest: manifest, signature: signature) do
    %Fetched{
      bytes: bytes,
      origin: request.source,
      source: Sources.describe(request.source),
      name: request.name || facts[:name] || (manifest && manifest.name),
      version: request.version || facts[:version] || (manifest && manifest.version),
      names: Request.named(facts[:name], facts[:version]),
      own_name: request.name || facts[:name],
      own_version: request.version || facts[:version],
      called: request.name || facts[:name] || Sources.name(request.source),
      manifest: manifest,
      signature: signature,
      pins: pins,
      keep: pins != [] and Sources.remote?(request.source) and not is_map_key(facts, :stored),
      digests: Map.get(facts, :digests, %{})
    }
  end

  # What was fetched before, with what this load wants beside it: a manifest that is asked for is never left out.
  defp complete(%{bytes: bytes}, %{max_size: most} = request) when byte_size(bytes) > most,
    do: {:error, Source.too_large(byte_size(bytes), asked(request, []))}

  defp complete(fetched, request) do
    with {:ok, manifest} <- kept_manifest(request, fetched.manifest),
         {:ok, signature} <- kept_signature(request, fetched.signature),
         do: {:ok, anew(fetched, request, manifest: manifest, signature: signature)}
  end

  # A struct may have been given other bytes since. Its pins hold, and no digest or signer is taken from it.
  defp anew(fetched, request, beside) do
    pins = Enum.uniq(fetched.pins ++ Request.pins(request, [], nil))
    struct!(fetched, [digests: %{}, signers: [], pins: pins] ++ beside)
  end

  defp kept_manifest(%{manifest: false}, kept), do: {:ok, kept}

  defp kept_manifest(request, kept) do
    if kept && wanted?(request) do
      {:ok, kept}
    else
      with {:ok, manifest} <- own_manifest(request), do: manifest(request, manifest, %{})
    end
  end

  defp kept_signature(%{signature: nil}, kept) when kept != nil, do: {:ok, kept}
  defp kept_signature(request, _kept), do: signature(request, %{})

  # The bytes

  # What others may change is only taken where somebody has said what it has to be.
  defp pinned(%{allow_unpinned: true}, _pins), do: :ok

  defp pinned(%{source: source} = request, []) do
    if Sources.mutable?(source) do
      nearest = Pins.nearest(request.config.pins, Sources.describe(source))
      {:error, %LoadError{reason: :unpinned, detail: nearest}}
    else
      :ok
    end
  end

  defp pinned(_request, _pins), do: :ok

  defp bytes(request, pins) do
    asked = asked(request, pins)

    case Sources.remote?(request.source) && stored(asked) do
      {:ok, bytes, facts} -> {:ok, bytes, facts}
      :none when request.offline -> {:error, %LoadError{reason: :offline}}
      _here_or_not_stored -> Sources.fetch(request.source, asked)
    end
  end

  # What is pinned, and in the store, is not fetched again: but for what lies beside it, which the store does not have.
  defp stored(%{digest: nil}), do: :none
  defp stored(%{signature: true}), do: :none
  defp stored(%{manifest: true}), do: :none

  # Whatever is the matter with the store, the source has it. It may be somebody else's code.
  defp stored(%{digest: digest} = asked) do
    case Sources.fetch({Sources.Store, digest}, asked) do
      {:ok, bytes, facts} -> {:ok, bytes, %{digests: facts.digests, stored: true}}
      {:error, _error} -> :none
    end
  rescue
    _error -> :none
  catch
    _kind, _reason -> :none
  end

  defp asked(request, pins) do
    %{
      max_size: request.max_size,
      deadline: request.deadline,
      digest: with([{_whose, digest} | _] <- pins, do: digest, else: (_none -> nil)),
      signature: request.trusts != [] and request.signature == nil,
      manifest: wanted?(request) and Sources.path(request.source) == nil,
      http: request.http,
      store: request.store
    }
  end

  # The manifest

  # What can be had before the module is read.
  defp own_manifest(%{manifest: false}), do: {:ok, nil}
  defp own_manifest(%{manifest: %Manifest{} = manifest}), do: {:ok, manifest}
  defp own_manifest(%{manifest: path}) when is_binary(path), do: Manifest.load(path)

  defp own_manifest(request) do
    {file, opts} = Keyword.pop_lazy(options(request), :file, fn -> beside(request.source) end)

    case file do
      nil -> {:ok, nil}
      {:several, path} -> {:error, %ManifestError{reason: :unreadable, file: path, got: @several}}
      path -> Manifest.load(path, opts)
    end
  end

  defp options(%{manifest: true}), do: []
  defp options(%{manifest: opts}), do: opts

  defp beside(source) do
    case {Sources.path(source), Sources.describe(source)} do
      {nil, :bytes} ->
        raise ArgumentError,
              "there is no #{@manifest} beside bytes; give its path, or a manifest, as option :manifest"

      {nil, _elsewhere} ->
        nil

      {path, _source} ->
        path |> Path.dirname() |> manifest_in()
    end
  end

  # Which of two is meant nobody can say before the bytes are read, and one may grant more than the other.
  defp manifest_in(folder) do
    [usual | others] = for name <- [@manifest, @of_component], do: Path.join(folder, name)

    case {File.exists?(usual), Enum.filter(others, &File.exists?/1)} do
      {true, [_other]} -> {:several, usual}
      {false, [other]} -> other
      {_there, []} -> usual
    end
  end

  # That of the source.
  defp manifest(%{manifest: false}, nil, _facts), do: {:ok, nil}

  defp manifest(request, nil, %{manifest: text}) do
    file = "#{@manifest} of #{Sources.describe(request.source)}"
    Manifest.parse(text, options(request) ++ [file: file])
  end

  defp manifest(_request, nil, _facts),
    do: {:error, %ManifestError{reason: :unreadable, got: "the source has none"}}

  defp manifest(_request, manifest, _facts), do: {:ok, manifest}

  defp wanted?(%{manifest: manifest}), do: manifest == true or is_list(manifest)

  # The signature

  defp signature(%{trusts: []}, _facts), do: {:ok, nil}
  defp signature(%{signature: {:bytes, bytes}}, _facts), do: {:ok, bytes}
  defp signature(%{signature: path}, _facts) when is_binary(path), do: read(path)

  defp signature(request, facts) do
    case Sources.path(request.source) do
      nil -> {:ok, facts[:signature]}
      path -> beside_module(path <> ".sig")
    end
  end

  # There need not be one.
  defp beside_module(path) do
    case RegularFile.read(path, Signature.most_bytes()) do
      {:error, :enoent} -> {:ok, nil}
      read -> usable(read, path)
    end
  end

  defp read(path), do: path |> RegularFile.read(Signature.most_bytes()) |> usable(path)

  defp usable({:ok, text}, _path), do: {:ok, text}

  defp usable({:error, refusal}, path) do
    detail = "#{Shown.path(path)}: #{RegularFile.words(refusal)}"
    {:error, %LoadError{reason: :bad_signature, detail: detail}}
  end
end
