defmodule Cybernetic.WASM.Store.Record do
  @moduledoc false
  # How a version is written down: as one JSON object, whose last member is the digest of the others. What was written is read
  # only if it is the very text that its contents make: then no bit of it has changed.

  alias Cybernetic.WASM.{Digest, JSON}
  alias Cybernetic.WASM.Store.Entry

  @format 1
  @longest 16_384

  @doc "The most that a record has, in bytes."
  @spec longest() :: pos_integer
  def longest, do: @longest

  @doc "The text of a record."
  @spec encode(Entry.t()) :: String.t()
  def encode(%Entry{} = entry) do
    members = members(entry)
    JSON.encode(members ++ [check: check(members)])
  end

  defp members(entry) do
    [
      format: @format,
      name: entry.name,
      version: entry.version,
      blake3: bare(entry.digest),
      sha256: bare(entry.sha256),
      size: entry.size,
      at: DateTime.to_iso8601(entry.at),
      by: entry.by,
      note: entry.note
    ]
  end

  defp bare(digest), do: digest |> String.split(":") |> List.last()

  defp check(members), do: members |> JSON.encode() |> Digest.text_of(:blake3)

  @doc "The entry that a text is the record of, or `:error`."
  @spec decode(binary) :: {:ok, Entry.t()} | :error
  def decode(text) do
    with {:ok, %{"format" => @format} = members} <- JSON.decode(text, @longest),
         {:ok, entry} <- entry(members),
         ^text <- encode(entry) do
      {:ok, entry}
    else
      _damaged -> :error
    end
  end

  defp entry(
         %{"name" => name, "version" => version, "blake3" => blake3, "sha256" => sha256} = map
       )
       when is_binary(blake3) and is_binary(sha256) do
    with at when is_binary(at) <- map["at"],
         {:ok, at, 0} <- DateTime.from_iso8601(at) do
      {:ok,
       %Entry{
         name: name,
         version: version,
         digest: "blake3:" <> blake3,
         sha256: "sha256:" <> sha256,
         size: map["size"],
         at: at,
         by: map["by"],
         note: map["note"]
       }}
    end
  end

  defp entry(_other), do: :error
end
