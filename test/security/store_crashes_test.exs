defmodule Cybernetic.WASM.Security.StoreCrashesTest do
  # Whoever writes to a store may end at any moment: what was acknowledged is there, and nothing that was half done is given.
  # `strace` ends the writer as it enters one of its system calls, with the signal that cannot be caught.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Digest, Store, StoreFolders, StoreWriter}

  @moduletag :strace
  # Thousands of syncs and processes: how long that takes is the machine's affair.
  @moduletag timeout: :infinity
  unless System.find_executable("strace"),
    do: @moduletag(skip: "strace is missing: `bin/setup test` installs it")

  # So often each step, and so often in all.
  @times 5
  @crashes 200
  # Of these a few may miss their step. Where many do, the test itself is wrong.
  @most 300

  # As a shell tells of the signal.
  @killed 137

  @calls ~w(openat mkdir writev pwrite64 fsync rename unlink rmdir chmod flock utimensat)

  setup_all do
    {:ok, lanes: System.schedulers_online()}
  end

  test "a writer that is killed in a put, a prune or a collection loses nothing", %{lanes: lanes} do
    {:ok, store: store, around: around, harm: _} = StoreFolders.store_folder()
    # The first makes the folders, the second is like all that follow.
    acks = for mark <- ~w(first second), {told, :ended} = write(store, around, mark, []), do: told
    begin = Path.join(around, "begin")
    File.cp_r!(store, begin)
    {_acks, :ended} = write(store, around, "pattern", [])
    plan = plan(around, store)
    assert length(Map.keys(plan)) > 20

    {:ok, board} =
      Agent.start_link(fn -> %{hits: Map.new(plan, fn {s, _} -> {s, 0} end), runs: 0} end)

    lane = %{begin: begin, acks: Enum.concat(acks), plan: plan, board: board}

    1..lanes
    |> Task.async_stream(fn _ -> lane(lane) end, timeout: :infinity, max_concurrency: lanes)
    |> Enum.each(fn {:ok, :done} -> :done end)

    %{hits: hits} = Agent.get(board, & &1)
    assert for({step, count} <- hits, count < @times, do: {step, count}) == []
    assert hits |> Map.values() |> Enum.sum() >= @crashes
  end

  test "what is there already is synced before it is acknowledged again" do
    {:ok, store: store, around: around, harm: _} = StoreFolders.store_folder()
    {[["put", version, digest] | _], :ended} = write(store, around, "same", [])
    {[["put", ^version, ^digest] | _], :ended} = write(store, around, "same", [])
    "blake3:" <> blake3 = digest
    "sha256:" <> sha256 = Digest.text_of("version same", :sha256)

    synced =
      for {_thread, "fsync", line} <- calls(around),
          [_, path] <- [Regex.run(~r/#{Regex.escape(store)}([^">]*)/, line)],
          do: path

    for folder <- [
          "/blobs/" <> binary_part(blake3, 0, 2),
          "/blobs",
          "/sha256/" <> binary_part(sha256, 0, 2),
          "/sha256",
          "/names/acme+x",
          "/names",
          ""
        ],
        do: assert(folder in synced)
  end

  # Each crash is at a step of the run that the plan was made from, in the store that it began with: what is met first is so known.
  # A second crash, at any step, meets what the first has left, and a last run ends.
  defp lane(lane) do
    case Agent.get_and_update(lane.board, &next/1) do
      :enough ->
        :done

      step ->
        around = StoreFolders.around()
        store = Path.join(around, "store")
        File.cp_r!(lane.begin, store)
        for folder <- StoreFolders.folders(store), do: File.chmod!(folder, 0o700)
        again = lane.plan |> Map.keys() |> Enum.random()

        Enum.reduce([{"pattern", step}, {"again", again}, {"last", nil}], lane.acks, fn run,
                                                                                        acks ->
          crash(lane, store, around, run, acks)
        end)

        File.rm_rf!(around)
        lane(lane)
    end
  end

  defp crash(lane, store, around, {mark, step}, acks) do
    inject = if step, do: inject(lane.plan[step]), else: []
    {told, ended} = write(store, around, mark, inject)
    if ended == :killed, do: Agent.update(lane.board, &hit(&1, last(around, store)))
    if step == nil, do: assert(ended == :ended)
    acks = acks ++ told
    check(store, acks, told)
    acks
  end

  defp inject(calls) do
    {call, nth} = Enum.random(calls)
    ["-e", "inject=#{call}:signal=KILL:when=#{nth}"]
  end

  # The step that was met least.
  defp next(%{hits: hits, runs: runs} = board) do
    {step, fewest} = Enum.min_by(Enum.shuffle(hits), &elem(&1, 1))
    enough? = fewest >= @times and hits |> Map.values() |> Enum.sum() >= @crashes
    if enough? or runs >= @most, do: {:enough, board}, else: {step, %{board | runs: runs + 1}}
  end

  defp hit(board, step) when is_map_key(board.hits, step),
    do: update_in(board.hits[step], &(&1 + 1))

  defp hit(board, _other), do: board

  # Runs the writer, and gives what it told.
  defp write(store, around, mark, inject) do
    log = Path.join(around, "log")

    args =
      ["-f", "-qq", "-y", "-o", log, "-e", "trace=" <> Enum.join(@calls, ",")] ++
        inject ++ StoreWriter.command(store, mark)

    {output, status} = System.cmd("strace", args, env: [{"ERL_CRASH_DUMP_BYTES", "0"}])
    assert status in [0, @killed], output
    acks = for line <- String.split(output, "\n", trim: true), do: String.split(line, " ")
    {acks, if(status == @killed, do: :killed, else: :ended)}
  end

  # The system calls for the store: by what they do, the name of each and the how many-th of that name in its thread it is.
  defp plan(around, store) do
    around
    |> calls()
    |> Enum.map_reduce(%{}, fn {thread, call, line}, counts ->
      counts = Map.update(counts, {thread, call}, 1, &(&1 + 1))
      {{step(call, line, store), {call, counts[{thread, call}]}}, counts}
    end)
    |> elem(0)
    |> Enum.reject(&(elem(&1, 0) == nil))
    |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))
  end

  defp calls(around) do
    for line <- around |> Path.join("log") |> File.read!() |> String.split("\n"),
        [_, thread, call] <- [Regex.run(~r/^(\d+) +(\w+)\(/, line)],
        do: {thread, call, line}
  end

  defp last(around, store) do
    around
    |> calls()
    |> Enum.map(fn {_thread, call, line} -> step(call, line, store) end)
    |> Enum.reject(&is_nil/1)
    |> List.last()
  end

  # Two calls are one step where they differ by digits alone. What only looks is none.
  defp step(call, line, store) do
    with [_, path] <- Regex.run(~r/#{Regex.escape(store)}(\/[^">]*)/, line),
         true <- call != "openat" or line =~ ~r/O_CREAT|O_DIRECTORY/ do
      to = Regex.run(~r/, ".*\/store\/([^"]*)"/, line, capture: :all_but_first)
      "#{call} #{Enum.map_join([path | to || []], " ", &plain/1)}"
    else
      _looks -> nil
    end
  end

  defp plain(path) do
    path
    |> String.replace(~r/[0-9]+\.[0-9]+\.[0-9]+/, "*")
    |> String.replace(~r/\b[0-9a-f]{2,}\b/, "*")
  end

  # The store as another process finds it.
  defp check(store, acks, told) do
    {:ok, entries} = Store.versions("acme/x", store: store)
    versions = Enum.map(entries, & &1.version)

    for ["put", version, digest] <- acks do
      above = Enum.count(versions, &(Version.compare(&1, version) == :gt))
      assert version in versions or above >= 2

      if version in versions,
        do: assert({:ok, _, %{digest: ^digest}} = Store.get("acme/x@#{version}", store: store))
    end

    for version <- versions, do: {:ok, _, _} = Store.get("acme/x@#{version}", store: store)

    for ["loose", digest] <- told,
        ["pruned"] not in told,
        do: assert({:ok, "loose" <> _, _} = Store.get(digest, store: store))

    assert {:ok, %{damaged: [], missing: []}} = Store.verify(store: store)
  end
end
