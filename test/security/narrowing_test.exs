defmodule Cybernetic.WASM.Security.NarrowingTest do
  # A merge that widened would hand a guest what one of the two refused it. So thousands of random
  # sandboxes are merged in random ways, and each result is asked about everything that there is
  # to ask about: what it grants, all that went into it must grant. Compared by asking, not by
  # structure, for the structure is what could be wrong.
  #
  # The generator draws from few values, so that sandboxes have much in common. Another seed:
  # `NARROWING_SEED=7 mix test test/security/narrowing_test.exs`.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Limits, Sandbox}
  alias Cybernetic.WASM.Sandbox.Capabilities.{Env, HostFunctions, Network}
  alias Cybernetic.WASM.Sandbox.Capabilities.Filesystem.Directories

  # Thousands of rounds take long where the machine has other things to do.
  @moduletag timeout: :infinity

  @rounds 2_000
  # To make one looks at directories, which takes the longest on a machine that is busy: the rounds draw from so many.
  @drawn_from 400

  setup do
    seed =
      String.to_integer(System.get_env("NARROWING_SEED", "20_251") |> String.replace("_", ""))

    :rand.seed(:exsss, {seed, seed, seed})
    :ok
  end

  # Generator

  defp one_of(values), do: Enum.random(values)
  defp some(values), do: Enum.filter(values, fn _ -> :rand.uniform(2) == 1 end)
  defp bool, do: :rand.uniform(2) == 1

  defp sandboxes, do: for(_ <- 1..@drawn_from, do: sandbox())

  defp sandbox do
    deterministic = :rand.uniform(4) == 1

    limits = for key <- some(Limits.keys()), do: {key, 20_000 + :rand.uniform(5)}

    options = [
      deterministic: deterministic,
      filesystem: filesystem(),
      env: env(),
      network: network(),
      clocks: clocks(deterministic),
      random: random(deterministic),
      stdio: stdio(),
      host_functions: host_functions()
    ]

    wasi = if :rand.uniform(3) == 1, do: [wasi: true], else: []

    Sandbox.new(limits ++ wasi ++ with_times(some(options), deterministic))
  end

  defp with_times(options, deterministic) do
    times = one_of([[], [times: :fixed]] ++ if(deterministic, do: [], else: [[times: :real]]))
    options = Keyword.replace_lazy(options, :filesystem, &(&1 ++ times))
    options ++ [deterministic: deterministic]
  end

  # Some of them contain others, here and there. `/a/y` in the guest often is `y` in `/a`.
  @hosts ["/srv/x", "/srv/x/y", "/srv/x/y/z", "/srv/z"]
  @guests ["/a", "/a/y", "/a/y/z", "/c"]

  defp filesystem do
    dirs = for guest <- some(@guests), do: {one_of(@hosts), guest, one_of([:ro, :rw])}
    dirs = if Directories.exposed(dirs), do: Enum.map(dirs, &put_elem(&1, 2, :rw)), else: dirs

    [
      dirs: dirs,
      null: one_of([false, "/dev/null", "/null"]),
      scratch: one_of([false, "/tmp", "/scratch"]),
      quota: one_of([0, 10, 20]),
      max_open: one_of([0, 4, 64])
    ]
  end

  @names ["LANG", "TZ", "API_TOKEN"]

  defp env do
    vars =
      for name <- some(@names),
          do: one_of([{name, "1"}, {name, "2"}, {:secret, name}])

    vars ++ if(bool(), do: [:any], else: [])
  end

  @rules [
    "api.example.com:443",
    "*.example.com:443",
    "*.example.com:*",
    "db.example:5432",
    "0.0.0.0/0:443",
    "[::]/0:*",
    "10.0.0.0/8:5432",
    "10.1.0.0/16:*",
    "127.0.0.1:443",
    "udp://1.1.1.1:53"
  ]

  defp network, do: [allow: some(@rules), dns: bool()]

  @timers [:none, {:fixed, 1}, {:fixed, 2}, {:stepped, 1, 1}, {:stepped, 1, 2}]
  defp clocks(deterministic), do: one_of(if deterministic, do: @timers, else: [:real | @timers])

  @seeds [:none, {:seeded, 1}, {:seeded, 2}]
  defp random(deterministic), do: one_of(if deterministic, do: @seeds, else: [:system | @seeds])

  defp stdio do
    for stream <- some([:stdin, :stdout, :stderr]),
        do: {stream, one_of([:none, :captured, :streamed, :inherited])}
  end

  @functions [{"env", "log"}, {"env", "time"}, {"db", "get"}, {"a.b", "c"}, {"a", "b.c"}]

  defp host_functions do
    case :rand.uniform(4) do
      1 -> :all
      _ -> some(["env.*", "db.*" | @functions])
    end
  end

  # What there is to ask. A sandbox grants a probe or not; the order of grants is in here alone.

  @targets [
    {"api.example.com:443", []},
    {"www.example.com:443", []},
    {"www.example.com:80", []},
    {"db.example:5432", []},
    {"1.1.1.1:443", []},
    {"[2606:4700::1]:80", []},
    {"10.1.2.3:5432", []},
    {"10.2.2.3:5432", []},
    {"[::ffff:10.1.2.3]:80", []},
    {"127.0.0.1:443", []},
    {"1.1.1.1:53", [protocol: :udp]},
    {"api.example.com:443", [address: {93, 184, 216, 34}]},
    {"api.example.com:443", [address: {127, 0, 0, 1}]},
    {"www.example.com:5432", [address: {10, 1, 2, 3}]},
    {"other.example:5432", [address: {10, 1, 2, 3}]}
  ]

  defp probes do
    List.flatten([
      [:wasi, :nondeterminism],
      for(key <- Limits.keys(), bound <- [20_002, 20_003, 20_005], do: {:limit, key, bound}),
      for(
        {host, guest} <- places(),
        mode <- [:ro, :rw],
        do: {:path, host, guest, mode}
      ),
      for(host <- @hosts, do: {:writing, host}),
      for(guest <- ["/dev/null", "/null"], do: {:null, guest}),
      :real_times,
      for(guest <- ["/tmp", "/scratch"], do: {:scratch, guest}),
      for(quota <- [1, 15], do: {:quota, quota}),
      for(open <- [1, 10], do: {:open, open}),
      for(name <- ["PATH" | @names], value <- ["1", "2"], do: {:given, name, value}),
      for(name <- @names, value <- ["1", "2"], do: {:seen, name, value}),
      for(name <- @names, do: {:from_vm, name}),
      for(clock <- [:real | @timers -- [:none]], do: {:clock, clock}),
      for(random <- [:system | @seeds -- [:none]], do: {:random, random}),
      for(
        stream <- [:stdin, :stdout, :stderr],
        grant <- [:captured, :inherited],
        do: {:stream, stream, grant}
      ),
      for({module, name} <- [{"other", "f"} | @functions], do: {:function, module, name}),
      for({target, opts} <- @targets, do: {:peer, target, opts}),
      for(name <- ["api.example.com", "db.example", "other.example"], do: {:lookup, name})
    ])
  end

  defp grants?(sandbox, :wasi), do: sandbox.wasi
  defp grants?(sandbox, :nondeterminism), do: not sandbox.deterministic
  defp grants?(sandbox, {:limit, key, bound}), do: Map.fetch!(sandbox.limits, key) >= bound

  # A file of the host's at a path in the guest: by any directory that both lie in, in the same way.
  defp grants?(sandbox, {:path, host, guest, mode}) do
    Enum.any?(sandbox.filesystem.dirs, fn {own_host, own_guest, own_mode} ->
      inside?(host, own_host) and own_guest <> String.replace_prefix(host, own_host, "") == guest and
        (own_mode == :rw or mode == :ro)
    end)
  end

  defp grants?(sandbox, {:writing, host}) do
    Enum.any?(sandbox.filesystem.dirs, fn {own, _guest, mode} ->
      mode == :rw and inside?(host, own)
    end)
  end

  defp grants?(sandbox, {:null, guest}), do: sandbox.filesystem.null == guest
  defp grants?(sandbox, :real_times), do: sandbox.filesystem.times != :fixed

  defp grants?(sandbox, {:scratch, guest}), do: sandbox.filesystem.scratch == guest
  defp grants?(sandbox, {:quota, bytes}), do: sandbox.filesystem.quota >= bytes
  defp grants?(sandbox, {:open, files}), do: sandbox.filesystem.max_open >= files

  defp grants?(sandbox, {:given, name, value}),
    do: match?({:ok, _}, Env.values(sandbox.env, %{name => value}))

  defp grants?(sandbox, {:seen, name, value}) do
    {:ok, values} = Env.values(sandbox.env, nil)
    {name, value} in values
  end

  # The names that have no value of their own here, and so would have the VM's.
  defp grants?(sandbox, {:from_vm, name}), do: Map.get(sandbox.env.vars, name) in [:vm, :secret]

  # Whoever has the real clock may be shown any other instead.
  defp grants?(sandbox, {:clock, clock}), do: sandbox.clocks in [:real, clock]
  defp grants?(sandbox, {:random, random}), do: sandbox.random in [:system, random]

  defp grants?(sandbox, {:stream, stream, grant}) do
    case Map.fetch!(sandbox.stdio, stream) do
      :inherited -> true
      own -> own == grant
    end
  end

  defp grants?(sandbox, {:function, module, name}),
    do: HostFunctions.allows?(sandbox.host_functions, module, name)

  defp grants?(sandbox, {:peer, target, opts}), do: Network.allowed?(sandbox, target, opts)
  defp grants?(sandbox, {:lookup, name}), do: Network.lookup?(sandbox, name)

  defp inside?(path, dir), do: path == dir or String.starts_with?(path, dir <> "/")

  # Where anything can be: each directory, and what is in it, at each path.
  defp places do
    for host <- @hosts,
        guest <- @guests,
        below <- ["", "/y", "/y/z", "/file"],
        uniq: true,
        do: {host <> below, guest <> below}
  end

  defp granted(sandbox, probes), do: Enum.filter(probes, &grants?(sandbox, &1))

  test "the generator grants each probe to some and refuses it to others" do
    sandboxes = for _ <- 1..300, do: sandbox()

    for probe <- probes() do
      assert Enum.any?(sandboxes, &grants?(&1, probe)), "nobody has #{inspect(probe)}"
      refute Enum.all?(sandboxes, &grants?(&1, probe)), "everybody has #{inspect(probe)}"
    end
  end

  test "no sequence of merges grants more than each that went into it" do
    {probes, sandboxes} = {probes(), sandboxes()}

    for _ <- 1..@rounds do
      inputs = for _ <- 1..one_of(2..5), do: one_of(sandboxes)
      merged = merge(inputs)

      for probe <- granted(merged, probes), input <- inputs do
        assert grants?(input, probe),
               "#{inspect(probe)} came out of a merge that #{inspect(input)} went into"
      end
    end
  end

  # In any order, in any grouping, some of them twice.
  defp merge(inputs), do: inputs |> Enum.concat(some(inputs)) |> Enum.shuffle() |> join()
  defp join([one]), do: one

  defp join(sandboxes) do
    {left, right} = Enum.split(sandboxes, :rand.uniform(length(sandboxes) - 1))
    Sandbox.narrow(join(left), join(right))
  end

  test "a merge loses nothing that all have in common" do
    # Not what one grants in one way and the other in another: a variable by its name and by :any,
    # a lookup by a rule and by dns: true. Nor what determinism takes away, clocks and random.
    exact? = fn
      {:given, _, _} -> false
      {:clock, _} -> false
      {:random, _} -> false
      {:lookup, _} -> false
      # To write to one of the host's directories is granted at one path and another.
      {:writing, _} -> false
      {:peer, _, [address: _]} -> false
      _probe -> true
    end

    {probes, sandboxes} = {Enum.filter(probes(), exact?), sandboxes()}

    for _ <- 1..@rounds do
      {one, other} = {one_of(sandboxes), one_of(sandboxes)}
      merged = Sandbox.narrow(one, other)

      for probe <- probes, grants?(one, probe), grants?(other, probe) do
        assert grants?(merged, probe), "#{inspect(probe)} was lost"
      end
    end
  end

  test "merging is commutative, associative and idempotent" do
    sandboxes = sandboxes()

    for _ <- 1..@rounds do
      [a, b, c] = for _ <- 1..3, do: one_of(sandboxes)
      assert Sandbox.narrow(a, b) == Sandbox.narrow(b, a)
      assert Sandbox.narrow(a, a) == a
      left = Sandbox.narrow(Sandbox.narrow(a, b), c)
      assert left == Sandbox.narrow(a, Sandbox.narrow(b, c))
      assert Sandbox.narrow(left, a) == left
    end
  end

  test "a call's options only narrow the sandbox that they stand beside" do
    {probes, sandboxes} = {probes(), sandboxes()}

    for _ <- 1..@rounds do
      given = one_of(sandboxes)
      opts = for key <- some(Limits.keys()), into: %{}, do: {key, 20_000 + :rand.uniform(5)}
      opts = if bool(), do: Map.put(opts, :deterministic, bool()), else: opts
      resolved = Sandbox.resolve(Map.put(opts, :sandbox, given))
      for probe <- granted(resolved, probes), do: assert(grants?(given, probe))
    end
  end
end
