defmodule Examples.Sources.Mnesia do
  @moduledoc """
  Modules in a table of Mnesia, OTP's own database, with their manifests and signatures.

      :mnesia.start()
      Examples.Sources.Mnesia.create_table()
      Examples.Sources.Mnesia.put("thumb", "1.0.0", File.read!("thumb.wasm"))

      Cybernetic.WASM.Runtime.load_module({Examples.Sources.Mnesia, "thumb"},
        trust: [keys: ["ed25519:…"]],
        digest: "sha256:…"
      )

  Any node of the cluster may write to the table: what it names may change, so a load needs a pin. The size has a column of its own,
  and is looked at before the bytes are read.
  """

  @behaviour Cybernetic.WASM.Loader.Source

  alias Cybernetic.WASM.LoadError
  alias Cybernetic.WASM.Loader.Source

  # Beside the rows that are small there are those that hold the bytes.
  @rows :wasm_modules
  @bytes :wasm_module_bytes

  @doc "Makes the tables, in memory; with `disc_copies: [node()]` among the options also on disk."
  def create_table(opts \\ []) do
    with {:atomic, :ok} <-
           :mnesia.create_table(@rows, [attributes: [:name, :version, :size, :beside]] ++ opts),
         {:atomic, :ok} <- :mnesia.create_table(@bytes, [attributes: [:name, :bytes]] ++ opts),
         do: :mnesia.wait_for_tables([@rows, @bytes], 60_000)
  end

  @doc "Writes a module. What lies beside it: `:manifest` and `:signature`, both texts."
  def put(name, version, bytes, beside \\ []) do
    {:atomic, :ok} =
      :mnesia.transaction(fn ->
        :mnesia.write({@rows, name, version, byte_size(bytes), Map.new(beside)})
        :mnesia.write({@bytes, name, bytes})
      end)

    :ok
  end

  @impl true
  def fetch(name, opts) do
    # One transaction: size, bytes and signature are of one write.
    {:atomic, result} = :mnesia.transaction(fn -> read(name, :mnesia.read(@rows, name), opts) end)
    result
  end

  defp read(_name, [], _opts),
    do: {:error, %LoadError{reason: :not_found, detail: "there is no such row"}}

  defp read(_name, [{@rows, _, _version, size, _beside}], %{max_size: most} = opts)
       when size > most,
       do: {:error, Source.too_large(size, opts)}

  defp read(name, [{@rows, _, version, _size, beside}], opts) do
    [{@bytes, _, bytes}] = :mnesia.read(@bytes, name)
    wanted = for key <- [:manifest, :signature], opts[key], do: key
    {:ok, bytes, beside |> Map.take(wanted) |> Map.merge(%{name: name, version: version})}
  end

  @impl true
  def describe(name), do: "mnesia/#{name}"

  @impl true
  def mutable?(_name), do: true
end
