defmodule Cybernetic.WASM.StoreWriter do
  @moduledoc false
  # A process of the system that writes to a store, and tells what is done when it is. It is a VM with as little in it as that
  # takes, whose files are all one thread's business: so that it can be ended at any one of its system calls.

  alias Cybernetic.WASM.Store

  @doc "The command that runs `main/1`."
  def command(store, mark) do
    paths = for app <- [:cybernetic_wasm, :elixir], do: Application.app_dir(app, "ebin")

    ~w(erl +S 1:1 +SDcpu 1:1 +SDio 1 -noinput -boot start_clean -pa) ++
      paths ++ ["-run", Atom.to_string(__MODULE__), "main", store, mark]
  end

  @doc "Puts a version and bytes without one, prunes and collects garbage."
  def main([store, mark]) do
    store = to_string(store)
    opts = [store: store, budget: :infinity]
    {:ok, entry} = Store.put("version #{mark}", [name: "acme/x", note: "#{mark}"] ++ opts)
    tell("put #{entry.version} #{entry.digest}")
    {:ok, entry} = Store.put("loose #{mark}", opts)
    tell("loose #{entry.digest}")
    {:ok, _dropped} = Store.prune(keep: 2, store: store)
    tell("pruned")
    {:ok, _counts} = Store.gc(store: store)
    tell("collected")
    :erlang.halt(0)
  end

  defp tell(words), do: :ok = :io.put_chars([words, ?\n])
end
