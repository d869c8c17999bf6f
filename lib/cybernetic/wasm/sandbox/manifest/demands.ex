defmodule Cybernetic.WASM.Sandbox.Manifest.Demands do
  @moduledoc false
  # The demands of a host on a manifest: certain limits have to be stated, and only certain capabilities may be asked for.

  alias Cybernetic.WASM.{DeniedError, Limits, ManifestError, Options}
  alias Cybernetic.WASM.Sandbox.{Capabilities, Manifest}
  alias Cybernetic.WASM.Sandbox.Manifest.{Place, Reader}

  @offered [:wasi | Capabilities.names()]
  @required [:max_memory, :fuel, :timeout]

  @doc "The options that state them."
  @spec options() :: Options.keys()
  def options do
    [
      require_limits:
        {"true, false, or a keyword list of ranges such as [max_memory: 524_288..4_194_304]",
         &(is_boolean(&1) or ranges?(&1))},
      offer: {"a list of #{Options.list(@offered)}", &offer?/1}
    ]
  end

  defp ranges?(ranges), do: Keyword.keyword?(ranges) and Enum.all?(ranges, &range?/1)

  defp range?({key, %Range{first: first, last: last, step: 1}}),
    do: first <= last and Limits.valid?(key, first) and Limits.valid?(key, last)

  defp range?(_pair), do: false

  defp offer?(offer),
    do: is_list(offer) and not List.improper?(offer) and offer -- @offered == []

  @doc "The manifest, if it meets the demands of these options, held to what they offer."
  @spec hold(Manifest.t(), map) ::
          {:ok, Manifest.t()} | {:error, ManifestError.t() | DeniedError.t()}
  def hold(manifest, opts) do
    with :ok <- limits(manifest, Map.get(opts, :require_limits, false)),
         do: offer(manifest, Map.get(opts, :offer, @offered))
  end

  defp limits(_manifest, false), do: :ok
  defp limits(manifest, true), do: limits(manifest, [])

  defp limits(manifest, ranges) do
    ranges = for {key, range} <- ranges, do: {Limits.canonical(key), range}

    (@required ++ Keyword.keys(ranges))
    |> Enum.uniq()
    |> Enum.find_value(:ok, &refused_limit(manifest, &1, manifest.limits[&1], ranges[&1]))
  end

  defp refused_limit(manifest, key, nil, range) do
    {:error,
     %ManifestError{
       reason: :missing,
       file: manifest.file,
       line: Place.line(manifest, :limits),
       key: "limits." <> Reader.limit_key(key),
       expected: within(key, range)
     }}
  end

  defp refused_limit(_manifest, _key, _value, nil), do: nil

  defp refused_limit(manifest, key, value, range) do
    unless value in range do
      facts = [reason: :value, expected: within(key, range), got: to_string(value)]
      Place.mistake(manifest, key, facts)
    end
  end

  defp within(key, nil), do: Limits.expected(key)
  defp within(_key, range), do: "an integer from #{range.first} to #{range.last}"

  defp offer(manifest, offered) do
    offered = if offered -- [:host_functions] == [], do: offered, else: [:wasi | offered]

    case Enum.find(asked(manifest), &(&1 not in offered)) do
      nil -> {:ok, withhold(manifest, offered)}
      capability -> {:error, denied(manifest, capability)}
    end
  end

  defp asked(manifest) do
    for {key, value} <- manifest.capabilities, value not in [false, :none, []], do: key
  end

  # A manifest that says nothing of host functions leaves them to the caller.
  defp withhold(manifest, offered) do
    if :host_functions in offered,
      do: manifest,
      else: put_in(manifest.capabilities[:host_functions], false)
  end

  defp denied(manifest, capability) do
    %DeniedError{
      capability: capability,
      denied: Place.of(manifest, capability),
      grant: "this host does not offer it (option offer:, #{inspect(capability)})"
    }
  end
end
