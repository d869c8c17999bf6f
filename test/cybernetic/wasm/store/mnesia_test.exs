defmodule Cybernetic.WASM.Store.MnesiaTest do
  use ExUnit.Case, async: true
  use Cybernetic.WASM.StoreSuite

  import Cybernetic.WASM.Eventually, only: [eventually: 1]

  alias Cybernetic.WASM.FreshNode
  alias Cybernetic.WASM.Store.Mnesia

  setup_all do
    # Without a schema on a disk, tables are in memory.
    folder = Path.join(System.tmp_dir!(), "mnesia_#{System.pid()}")
    Application.put_env(:mnesia, :dir, String.to_charlist(folder))
    :ok = :mnesia.start()
    on_exit(fn -> :mnesia.stop() end)
  end

  setup context do
    tables = :"store_#{context.line}"
    :ok = Mnesia.create(copies: :ram_copies, tables: tables)

    on_exit(fn ->
      for kind <- ~w(blobs facts entries), do: :mnesia.delete_table(:"#{tables}_#{kind}")
    end)

    {:ok, store: {Mnesia, tables: tables}, harm: harm(tables)}
  end

  defp harm(tables) do
    %{
      blob: fn digest -> change(:"#{tables}_blobs", digest, &(&1 <> "!")) end,
      entry: fn name, version ->
        change(:"#{tables}_entries", {name, version}, &String.replace(&1, "x", "y"))
      end,
      age: fn digest, seconds ->
        [row] = :mnesia.dirty_read(:"#{tables}_facts", digest)
        :mnesia.dirty_write(put_elem(row, 4, System.os_time(:second) - seconds))
      end
    }
  end

  defp change(table, key, function) do
    [{^table, ^key, value}] = :mnesia.dirty_read(table, key)
    :mnesia.dirty_write({table, key, function.(value)})
  end

  test "what has no tables, or no Mnesia, says so" do
    store = {Mnesia, tables: :none_such}
    assert {:error, error} = Store.get("x", store: store)
    assert %{reason: :failed, blame: :host} = error

    assert Exception.message(error) =~
             "its tables are not on this node: Cybernetic.WASM.Store.Mnesia.create/1"

    assert StoreSuite.reason(Store.put("bytes", store: store)) == :failed
  end

  test "an exception in the middle of a write is itself, and leaves nothing", %{store: store} do
    assert_raise RuntimeError, "midway", fn ->
      {module, config} = store

      module.alone(config, 0, fn ->
        module.put_blob(config, %{blake3: "blake3:0", sha256: "sha256:0"}, "bytes")
        raise "midway"
      end)
    end

    assert {:ok, %{blobs: 0}} = Store.verify(store: store)
  end

  test "who writes waits for others, and no longer than it may", %{store: store} do
    {Mnesia, tables: tables} = store
    {:ok, _} = Store.put("bytes", name: "x", store: store)
    test = self()

    holder =
      Task.async(fn ->
        :mnesia.transaction(fn ->
          :mnesia.write_lock_table(:"#{tables}_entries")
          send(test, :held)
          receive(do: (:go -> :ok))
        end)
      end)

    receive(do: (:held -> :ok))
    assert {:error, error} = Store.put("more", name: "x", timeout: 0, store: store)
    assert %{reason: :busy, blame: :node} = error
    assert Cybernetic.WASM.Error.transient?(error)
    # Who reads does not wait.
    assert {:ok, "bytes", _} = Store.get("x", store: store)

    # Who ends while it waits leaves nobody behind that writes later.
    dead = Task.async(fn -> Store.put("dead", timeout: :infinity, store: store) end)
    assert eventually(fn -> Enum.any?(links(dead.pid), &(&1 not in [test])) end)
    Task.shutdown(dead, :brutal_kill)

    waiting = Task.async(fn -> Store.put("more", name: "x", timeout: :infinity, store: store) end)

    send(holder.pid, :go)
    Task.await(holder, :infinity)
    assert {:ok, _} = Task.await(waiting, :infinity)
    assert {:ok, %{blobs: 2}} = Store.verify(store: store)
    refute_received _
  end

  defp links(pid) do
    case Process.info(pid, :links) do
      {:links, links} -> links
      nil -> []
    end
  end

  @tag :tmp_dir
  test "what was put there is there after the VM was ended, whichever way", %{tmp_dir: folder} do
    code = fn code ->
      """
      Application.put_env(:mnesia, :dir, ~c"#{folder}")
      alias Cybernetic.WASM.Store
      store = {Store.Mnesia, []}
      #{code}
      """
    end

    first =
      code.("""
      :ok = :mnesia.create_schema([node()])
      :ok = :mnesia.start()
      :ok = Store.Mnesia.create()
      {:ok, _} = Store.put("first", name: "x", version: "1.0.0", store: store)
      {:ok, _} = Store.put("second", name: "x", version: "1.1.0", store: store)
      {:ok, _} = Store.put("loose", store: store)
      System.cmd("kill", ["-9", System.pid()])
      """)

    {_output, status} = FreshNode.run([], first, start: false)
    assert status != 0

    second =
      code.("""
      :ok = :mnesia.start()
      :ok = Store.Mnesia.create()
      {:ok, "second", _} = Store.get("x", store: store)
      {:ok, "first", _} = Store.get("x@1.0.0", store: store)
      {:ok, report} = Store.verify(store: store)
      {report.blobs, report.versions, report.damaged}
      """)

    assert FreshNode.eval([], second, start: false) == {3, 2, []}
  end

  describe "on two nodes" do
    @describetag :tmp_dir
    # The second has an address of its own, so that both are found at the same port without a process that tells ports.
    case :gen_tcp.listen(0, ip: {127, 0, 0, 2}) do
      {:ok, socket} -> :gen_tcp.close(socket)
      _none -> @describetag skip: "there is no address 127.0.0.2"
    end

    test "each has what the other has put there, and a version is taken once", context do
      {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(socket)
      :gen_tcp.close(socket)
      way = {port, 16 |> :crypto.strong_rand_bytes() |> Base.encode16()}

      first = """
      alias Cybernetic.WASM.Store
      import Cybernetic.WASM.Eventually
      other = :"b@127.0.0.2"
      eventually(fn -> Node.connect(other) == true end)
      nodes = [node(), other]
      store = {Store.Mnesia, []}

      for node <- nodes do
        folder = String.to_charlist("#{context.tmp_dir}/" <> hd(String.split(to_string(node), "@")))
        :ok = :erpc.call(node, Application, :put_env, [:mnesia, :dir, folder])
      end

      :ok = :mnesia.create_schema(nodes)
      for node <- nodes, do: :ok = :erpc.call(node, :mnesia, :start, [])
      :ok = Store.Mnesia.create(nodes: nodes)
      {:ok, entry} = Store.put("bytes", name: "x", version: "1.0.0", store: store)
      {:ok, "bytes", ^entry} = :erpc.call(other, Store, :get, ["x", [store: store]])
      {:ok, _} = :erpc.call(other, Store, :put, ["more", [name: "x", version: "1.1.0", store: store]])
      {:ok, "more", _} = Store.get("x", store: store)

      claims =
        for version <- 1..20, node <- nodes do
          opts = [name: "y", version: "\#{version}.0.0", store: store]
          {version, :erpc.send_request(node, Store, :put, [to_string(node), opts])}
        end

      taken = for {version, request} <- claims, {:ok, _} <- [:erpc.receive_response(request)], do: version
      :erpc.cast(other, :erlang, :halt, [])
      eventually(fn -> Node.list() == [] end)
      {:ok, "more", _} = Store.get("x", store: store)
      {:ok, _} = Store.put("alone", name: "z", store: store)
      IO.puts("taken \#{inspect(Enum.sort(taken), limit: :infinity)}")
      """

      other = """
      eventually = &Cybernetic.WASM.Eventually.eventually/1
      eventually.(fn -> :"a@127.0.0.1" in Node.list() end)
      eventually.(fn -> Node.list() == [] end)
      """

      second = Task.async(fn -> node("b", "127.0.0.2", way, other) end)
      {output, status} = node("a", "127.0.0.1", way, first)
      Task.await(second, :infinity)
      assert {output, status} == {"taken #{inspect(Enum.to_list(1..20), limit: :infinity)}\n", 0}
    end
  end

  defp node(name, address, {port, cookie}, code) do
    interface = "{" <> String.replace(address, ".", ",") <> "}"
    erl = "-start_epmd false -erl_epmd_port #{port} -kernel inet_dist_use_interface #{interface}"
    ebin = Application.app_dir(:cybernetic_wasm, "ebin")
    args = ["--name", "#{name}@#{address}", "--cookie", cookie, "--erl", erl, "-pa", ebin]
    System.cmd("elixir", args ++ ["-e", code], stderr_to_stdout: true)
  end
end
