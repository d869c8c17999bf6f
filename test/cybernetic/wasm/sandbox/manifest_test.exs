defmodule Cybernetic.WASM.Sandbox.ManifestTest do
  use ExUnit.Case, async: true
  doctest Cybernetic.WASM.Sandbox.Manifest

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Executor, Limits, Runtime, Sandbox}
  alias Cybernetic.WASM.{DeniedError, Error, LimitError, LoadError, ManifestError}

  alias Cybernetic.WASM.Sandbox.Manifest

  @documented """
  [module]
  name = "compute_module"
  version = "1.0.0"
  entry = "process"
  [capabilities]
  memory = true
  threading = false
  filesystem = [{ host = "data", guest = "/data", mode = "ro" }]   # or false
  network = ["api.example.com:443"]
  env = ["LANG"]
  [limits]
  memory = 50000000
  stack = 1000000
  fuel = 1000000000
  time_ms = 5000
  output = 1000000
  """

  defp parse!(text, opts \\ []), do: text |> Manifest.parse(opts) |> Error.unwrap!()

  defp refused(text, opts \\ []) do
    assert {:error, error} = Manifest.parse(text, [file: "module.toml"] ++ opts)
    error
  end

  defp message(text, opts \\ []), do: text |> refused(opts) |> Exception.message()

  defp capabilities(lines), do: parse!("[capabilities]\n" <> lines).capabilities

  describe "parse/2" do
    test "reads the documented form" do
      manifest = parse!(@documented, base: "/srv/app")

      assert %{name: "compute_module", version: "1.0.0", entry: "process", memory: true} =
               manifest

      assert manifest.capabilities[:filesystem][:dirs] == [{"/srv/app/data", "/data", :ro}]
      assert manifest.capabilities[:network] == ["api.example.com:443"]
      assert manifest.capabilities[:env] == ["LANG"]

      assert manifest.limits == [
               max_memory: 50_000_000,
               max_stack: 1_000_000,
               fuel: 1_000_000_000,
               timeout: 5_000,
               max_output: 1_000_000
             ]

      assert %Limits{max_memory: 50_000_000, timeout: 5_000, max_host_calls: 1_000_000} =
               Manifest.to_sandbox(manifest).limits
    end

    test "grants nothing where nothing is written" do
      assert %Manifest{capabilities: [], limits: []} = manifest = parse!("")
      assert Manifest.to_sandbox(manifest) == Sandbox.new()
    end

    test "knows every capability's forms" do
      for {lines, options} <- [
            {"wasi = true", [wasi: true]},
            {"filesystem = false", []},
            {"filesystem = []\nscratch = false", []},
            {"quota = 5", []},
            {~s|scratch = "/tmp"\nquota = 4096\nmax_open = 3|,
             [filesystem: [dirs: [], scratch: "/tmp", quota: 4096, max_open: 3]]},
            {~s|null = "/dev/null"\ntimes = "fixed"|,
             [filesystem: [dirs: [], scratch: false, null: "/dev/null", times: :fixed]]},
            {~s|times = "real"\nnull = false|, []},
            {"wasi = false\nclocks = false", [wasi: false, clocks: :none]},
            {"network = false", [network: false]},
            {~s|network = { allow = ["a.example:1"], dns = true }|,
             [network: [allow: ["a.example:1"], dns: true]]},
            {"env = false", [env: false]},
            {~s|env = "any"|, [env: :any]},
            {~s|env = ["A", { name = "B", value = "b" }, { name = "API_KEY", secret = true }, { name = "C" }]|,
             [env: ["A", {"B", "b"}, {:secret, "API_KEY"}, "C"]]},
            {~s|env = { A = "a" }|, [env: [{"A", "a"}]]},
            {~s|clocks = "none"|, [clocks: :none]},
            {"clocks = false", [clocks: :none]},
            {~s|clocks = "real"|, [clocks: :real]},
            {"clocks = { fixed = 7 }", [clocks: {:fixed, 7}]},
            {"clocks = { step = 2, start = 1 }", [clocks: {:stepped, 1, 2}]},
            {~s|random = "none"|, [random: :none]},
            {~s|random = "system"|, [random: :system]},
            {"random = { seed = 42 }", [random: {:seeded, 42}]},
            {"stdio = false", [stdio: :none]},
            {~s|stdio = "captured"|, [stdio: :captured]},
            {~s|stdio = "streamed"|, [stdio: :streamed]},
            {~s|stdio = "inherited"|, [stdio: :inherited]},
            {~s|stdio = { stdin = "none", stdout = "captured", stderr = "inherited" }|,
             [stdio: [stdin: :none, stdout: :captured, stderr: :inherited]]},
            {"host_functions = false", [host_functions: false]},
            {~s|host_functions = ["env.log", "math.*", { module = "a.b", name = "c" }]|,
             [host_functions: ["env.log", "math.*", {"a.b", "c"}]]}
          ] do
        assert capabilities(lines) == options, lines
        assert %Sandbox{} = Sandbox.new(options)
      end
    end

    test "says that WASI is needed where what it serves is granted" do
      for granted <- [~s|clocks = "real"|, ~s|null = "/dev/null"|, "env = ['LANG']"] do
        {:error, error} = Manifest.parse("[capabilities]\n#{granted}\nwasi = false")
        [key] = Regex.run(~r/clocks|env|null/, granted)
        name = if key == "null", do: "filesystem", else: key

        assert Exception.message(error) ==
                 "manifest:3: capabilities.wasi: expected true, or nothing, where #{name} is granted, got false"
      end
    end

    test "refuses a directory to read in one to write" do
      {:error, error} =
        Manifest.parse(
          """
          [capabilities]
          filesystem = [{ host = "a", guest = "/a", mode = "rw" }, { host = "a/b", guest = "/b" }]
          """,
          base: "/srv"
        )

      assert %{reason: :value, line: 2, key: "capabilities.filesystem"} = error
      assert Exception.message(error) =~ ~s|grants "/srv/a/b" to read, but "/srv/a", in which|
    end

    test "knows directories of several kinds" do
      lines = """
      [[capabilities.filesystem]]
      host = "in"
      guest = "/in"
      [[capabilities.filesystem]]
      host = "./deep/../out"
      guest = "/out"
      mode = "rw"
      """

      assert parse!(lines, base: "/srv").capabilities[:filesystem][:dirs] ==
               [{"/srv/in", "/in", :ro}, {"/srv/out", "/out", :rw}]
    end

    test "knows every limit" do
      manifest =
        parse!("[limits]\nhost_calls = 0\ntable_elements = 1\ninstances = 2\nstack = 65536")

      assert manifest.limits == [
               max_host_calls: 0,
               max_table_elements: 1,
               max_instances: 2,
               max_stack: 65_536
             ]
    end

    test "says where a mistake is, what was expected and what stands there" do
      assert message("\n\n\n\n\n[capabilities]\nmemory = 'yes'") ==
               ~S|module.toml:7: capabilities.memory: expected true or false, got "yes"|

      assert message(
               ~s|[capabilities]\nfilesystem = [\n { host = "a", guest = "/a", mode = "w" }]|
             ) ==
               ~S|module.toml:3: capabilities.filesystem[0].mode: expected "ro" or "rw", got "w"|

      assert message("[module]\nname = 1") == "module.toml:2: module.name: expected a text, got 1"
      assert message("a = 1\na = 2") == "module.toml:2:1: duplicate key"
      assert message("[limits]\nfuel = nan") =~ "module.toml:2: limits.fuel: expected an integer"
    end

    test "lists the known keys, and the likeliest first" do
      error = refused("[capabilities]\nmemroy = true")

      assert %ManifestError{reason: :unknown_key, line: 2, key: "capabilities.memroy"} = error
      assert error.suggestion == "memory"

      assert Exception.message(error) =~
               "(did you mean memory?); known are: memory, threading, wasi"

      assert %{suggestion: nil, known: ~w(module component capabilities limits)} =
               refused("colour = 1")
    end

    test "names a key that is missing" do
      error = refused("[capabilities]\nfilesystem = [{ host = 'a' }]")
      assert %{reason: :missing, line: 2, key: "capabilities.filesystem[0].guest"} = error
      assert Exception.message(error) =~ "expected a text, but it is not stated"
    end

    test "says why the sandbox refuses a grant" do
      assert message("[capabilities]\nenv = ['API_KEY']") =~
               ~r/capabilities\.env\[0\]: .* got "API_KEY" \(.*looks like a secret's name/

      assert message("[capabilities]\nnetwork = ['a:1', 'b']") =~
               ~r/capabilities\.network\[1\]: .* got "b" \(.*a port is missing/
    end

    test "shows no value of the environment" do
      for lines <- [
            ~s|env = { A = "hunter2\\u0000" }|,
            ~s|env = [{ name = "A=hunter2", value = "hunter2" }]|,
            ~s|env = ["API_KEY=hunter2"]|,
            ~s|env = { A = ["hunter2"] }|,
            ~s|env = [["hunter2"]]|,
            ~s|env = [{ name = "A", value = "hunter2", secret = true }]|
          ] do
        refute message("[capabilities]\n" <> lines) =~ "hunter2"
      end

      refute inspect(parse!("[capabilities]\nenv = { A = 'hunter2' }")) =~ "hunter2"
    end

    test "never grants threads" do
      assert %DeniedError{capability: :threading} =
               error = refused("[capabilities]\nthreading = true")

      assert Exception.message(error) =~ "module.toml:2: capabilities.threading"
    end

    test "refuses options that it does not know" do
      assert_raise ArgumentError,
                   ~r/unknown manifest option :limits; known are: :require_limits/,
                   fn ->
                     Manifest.parse("", limits: true)
                   end

      for opts <- [
            [require_limits: [max_memory: 5]],
            [require_limits: [max_memory: 4..1]],
            [require_limits: [memory: 1..4]],
            [require_limits: 1],
            [offer: [:everything]],
            [offer: :stdio],
            [base: :here],
            [allow_absolute: "yes"]
          ] do
        assert_raise ArgumentError, fn -> Manifest.parse("", opts) end
      end
    end
  end

  describe "host paths" do
    @describetag :tmp_dir

    defp directory(host, opts) do
      Manifest.parse(
        "[capabilities]\nfilesystem = [{ host = #{inspect(host)}, guest = '/d' }]",
        opts
      )
    end

    test "stay in the manifest's directory", %{tmp_dir: dir} do
      for host <- ["/etc", "..", "../etc", "a/../../etc", "~", "~/x"] do
        assert {:error, %ManifestError{} = error} = directory(host, base: dir)
        assert error.key == "capabilities.filesystem[0].host"
        assert Exception.message(error) =~ "allow_absolute: true"
      end

      assert {:ok, _} = directory(".", base: dir)
      assert {:ok, _} = directory("a/../b", base: dir)
      assert {:error, _} = directory("a\0", base: dir)
    end

    test "do not leave it by a link", %{tmp_dir: dir} do
      File.ln_s!("/etc", Path.join(dir, "link"))
      assert {:error, %ManifestError{}} = directory("link", base: dir)
      assert {:error, %ManifestError{}} = directory("link/ssl", base: dir)
      assert {:ok, _} = directory("link", base: dir, allow_absolute: true)
    end

    test "are anywhere where the host says so", %{tmp_dir: dir} do
      assert {:ok, manifest} = directory("/etc", base: dir, allow_absolute: true)
      assert manifest.capabilities[:filesystem][:dirs] == [{"/etc", "/d", :ro}]
    end
  end

  describe "require_limits" do
    test "wants memory, fuel and time stated" do
      for key <- ["memory", "fuel", "time_ms"] do
        lines =
          for other <- ["memory", "fuel", "time_ms"], other != key, do: "#{other} = 1000000\n"

        error = refused("\n[limits]\n#{lines}", require_limits: true)
        assert %ManifestError{reason: :missing, line: 2} = error
        assert error.key == "limits." <> key
      end

      assert %{line: nil, key: "limits.memory"} = refused("", require_limits: true)

      assert Exception.message(refused("", require_limits: true)) =~
               "module.toml: limits.memory: expected"

      assert {:ok, _} = Manifest.parse(@documented, require_limits: true)
    end

    test "wants limits within the host's ranges" do
      ranges = [max_memory: 524_288..4_194_304, max_output: 0..10]
      stated = "[limits]\nfuel = 1\ntime_ms = 1\n"

      assert message(stated <> "memory = 5000000", require_limits: ranges) ==
               "module.toml:4: limits.memory: expected an integer from 524288 to 4194304, got 5000000"

      assert message(stated <> "memory = 524287", require_limits: ranges) =~ "got 524287"

      assert message(stated <> "memory = 524288", require_limits: ranges) =~
               "limits.output: expected an integer from 0 to 10, but it is not stated"

      assert {:ok, _} =
               Manifest.parse(stated <> "memory = 524288\noutput = 10", require_limits: ranges)

      assert message(stated <> "memory = 1", require_limits: [max_execution_time: 2..3]) =~
               "limits.time_ms"
    end
  end

  describe "offer" do
    test "refuses what the host does not offer" do
      for {capability, lines} <- [
            wasi: "wasi = true",
            filesystem: "filesystem = [{ host = 'a', guest = '/a' }]",
            filesystem: "scratch = '/tmp'",
            network: "network = ['a:1']",
            env: "env = ['LANG']",
            clocks: "clocks = 'real'",
            random: "random = 'system'",
            stdio: "stdio = 'captured'",
            host_functions: "host_functions = ['env.log']"
          ] do
        text = "[capabilities]\n" <> lines
        assert %DeniedError{capability: ^capability} = error = refused(text, offer: [])
        assert Exception.message(error) =~ "module.toml:2: capabilities."
        assert {:ok, _} = Manifest.parse(text, offer: [capability])
      end
    end

    test "lets a manifest refuse what is not offered" do
      lines =
        "network = false\nenv = false\nclocks = 'none'\nstdio = false\nfilesystem = []\nhost_functions = false"

      assert {:ok, _} = Manifest.parse("[capabilities]\nwasi = false\n" <> lines, offer: [])
    end

    test "brings WASI with what is served by it" do
      assert {:ok, _} =
               Manifest.parse("[capabilities]\nwasi = true\nstdio = 'captured'", offer: [:stdio])

      assert {:error, _} = Manifest.parse("[capabilities]\nwasi = true", offer: [:host_functions])
    end

    test "withholds host functions that a manifest does not speak of" do
      assert parse!("", offer: []).capabilities == [host_functions: false]
      assert parse!("", offer: [:host_functions]).capabilities == []
    end
  end

  describe "load/2" do
    @describetag :tmp_dir

    test "reads a file, whose directory host paths are relative to", %{tmp_dir: dir} do
      path = Path.join(dir, "module.toml")
      File.write!(path, @documented)
      assert {:ok, manifest} = Manifest.load(path)
      assert [{host, "/data", :ro}] = manifest.capabilities[:filesystem][:dirs]
      assert host == Path.expand("data", dir)
      assert Manifest.load!(path) == manifest
    end

    test "says which file a mistake is in", %{tmp_dir: dir} do
      path = Path.join(dir, "module.toml")
      File.write!(path, "[limits]\nfuel = 0")
      assert {:error, error} = Manifest.load(path)
      assert Exception.message(error) =~ "#{path}:2: limits.fuel"
      assert_raise ManifestError, fn -> Manifest.load!(path) end
    end

    test "refuses what is no file", %{tmp_dir: dir} do
      for {path, why} <- [
            {Path.join(dir, "nope.toml"), "no such file"},
            {dir, "directory"},
            {"a\0b", "no such file"},
            {"/dev/zero", "device"}
          ] do
        assert {:error, %ManifestError{reason: :unreadable} = error} = Manifest.load(path)
        assert Exception.message(error) =~ why
      end
    end
  end

  describe "of a module" do
    @describetag :tmp_dir

    setup %{tmp_dir: dir} do
      wasm = Path.join(dir, "compute.wasm")
      File.cp!("priv/wasm/compute.wasm", wasm)
      %{wasm: wasm, toml: Path.join(dir, "module.toml")}
    end

    test "is read beside it, or from a path", %{wasm: wasm, toml: toml, tmp_dir: dir} do
      other = Path.join(dir, "other.toml")
      File.write!(toml, "[module]\nname = 'beside'")
      File.write!(other, "[module]\nname = 'other'")

      assert Runtime.load_module!(wasm).manifest == nil
      assert Runtime.load_module!(wasm, manifest: false).manifest == nil
      assert Runtime.load_module!(wasm, manifest: true).manifest.name == "beside"
      assert Runtime.load_module!(wasm, manifest: other).manifest.name == "other"

      assert Runtime.load_module!(wasm, manifest: parse!(@documented)).manifest.name ==
               "compute_module"

      assert Runtime.load_module!(wasm, manifest: [offer: []]).manifest.name == "beside"
      assert Runtime.load_module!(wasm, manifest: [file: other]).manifest.name == "other"

      assert Runtime.load_module!({:bytes, File.read!(wasm)}, manifest: other).manifest.name ==
               "other"
    end

    test "is refused with the module", %{wasm: wasm, toml: toml} do
      assert {:error, %ManifestError{reason: :unreadable}} =
               Runtime.load_module(wasm, manifest: true)

      File.write!(toml, "[capabilities]\nstdio = 'captured'")
      assert {:error, %DeniedError{}} = Runtime.load_module(wasm, manifest: [offer: [:env]])

      assert {:error, %ManifestError{}} =
               Runtime.load_module(wasm, manifest: [require_limits: true])

      assert_raise ManifestError, fn ->
        Runtime.load_module!(wasm, manifest: [require_limits: true])
      end

      assert_raise ArgumentError, ~r/no module.toml beside bytes/, fn ->
        Runtime.load_module({:bytes, "(module)"}, manifest: true)
      end

      assert_raise ArgumentError, ~r/option :manifest must be/, fn ->
        Runtime.load_module(wasm, manifest: :yes)
      end
    end

    test "pins its digest", %{wasm: wasm} do
      digest = Runtime.load_module!(wasm).digest

      assert {:ok, _} =
               Runtime.load_module(wasm, manifest: parse!("[module]\ndigest = '#{digest}'"))

      other = "blake3:" <> String.duplicate("0", 64)
      manifest = parse!("[module]\ndigest = '#{other}'", file: "module.toml")

      assert {:error, %LoadError{reason: :digest_mismatch, pin: :manifest} = error} =
               Runtime.load_module(wasm, manifest: manifest)

      assert Exception.message(error) ==
               "cannot load #{wasm}: the digest in the manifest (module.toml:2: module.digest) is #{other}, " <>
                 "and the bytes have #{digest}"

      module = Runtime.load_module!(wasm)
      assert {:error, %ManifestError{reason: :module} = error} = Manifest.check(manifest, module)

      assert Exception.message(error) ==
               "module.toml:2: module.digest: expected a module with this digest, got #{digest}"
    end

    test "pins its digest by SHA-256", %{wasm: wasm} do
      bytes = File.read!(wasm)
      digest = "sha256:" <> Base.encode16(:crypto.hash(:sha256, bytes), case: :lower)
      manifest = parse!("[module]\ndigest = '#{digest}'")
      assert {:ok, module} = Runtime.load_module(wasm, manifest: manifest)
      assert Cybernetic.WASM.Module.digest(module, :sha256) == digest
      # Also of one that was loaded without.
      assert Manifest.check(manifest, Runtime.load_module!(wasm)) == :ok

      assert {:error, %LoadError{reason: :digest_mismatch}} =
               Runtime.load_module({:bytes, bytes <> "x"}, manifest: manifest)

      assert {:error, %ManifestError{reason: :module}} =
               Manifest.check(manifest, Runtime.load_module!({:bytes, "(module)"}))
    end

    test "names an export as its entry", %{wasm: wasm} do
      assert {:ok, module} =
               Runtime.load_module(wasm, manifest: parse!("[module]\nentry = 'process'"))

      assert module.manifest.entry == "process"

      for entry <- ["nothing", "memory"] do
        manifest = parse!("[module]\nentry = '#{entry}'")

        assert {:error, %ManifestError{key: "module.entry"}} =
                 Runtime.load_module(wasm, manifest: manifest)
      end
    end

    test "says that it has no memory" do
      none = parse!("[capabilities]\nmemory = false")

      for {wat, without?} <- [
            {"(module)", true},
            {"(module (table 1 funcref))", true},
            {"(module (memory 1))", false},
            {~s|(module (memory (export "m") 0))|, false},
            {~s|(module (import "a" "m" (memory 1)))|, false}
          ] do
        module = load!(wat)
        assert Manifest.check(none, module) == :ok == without?, wat
        assert Manifest.check(parse!("[capabilities]\nmemory = true"), module) == :ok
      end
    end

    test "holds its calls, whose options only narrow it", %{wasm: wasm} do
      module =
        Runtime.load_module!(wasm, manifest: parse!("[limits]\nfuel = 10000\ntime_ms = 60000"))

      for opts <- [
            [],
            [fuel: 1_000_000],
            [sandbox: Sandbox.new(fuel: 1_000_000)],
            [sandbox: :none]
          ] do
        assert {:error, %LimitError{limit: :fuel, allowed: 10_000}} =
                 Executor.call(module, "spin", [], opts)
      end

      assert {:error, %LimitError{allowed: 100}} = Executor.call(module, "spin", [], fuel: 100)
      assert Executor.call(module, "process", [42]) == {:ok, 84}
    end

    test "withholds host functions that it does not list" do
      source = {:bytes, ~S|(module (import "env" "f" (func $f)) (func (export "run") (call $f)))|}
      imports = %{"env" => %{"f" => fn _context -> :ok end}}
      listed = parse!("[capabilities]\nhost_functions = ['env.f']")
      other = parse!("[capabilities]\nhost_functions = ['env.g']")

      assert {:ok, _} =
               source
               |> Runtime.load_module!(manifest: listed)
               |> Executor.call("run", [], imports: imports)

      assert {:error, %DeniedError{capability: :host_functions}} =
               source
               |> Runtime.load_module!(manifest: other)
               |> Executor.call("run", [], imports: imports)
    end

    test "stays with a module that was started up before", %{wasm: wasm} do
      module = Runtime.load_module!(wasm, manifest: parse!("[limits]\nfuel = 10000"))
      assert {:ok, ready} = Runtime.preinit(module, "process", [1])
      assert ready.manifest == module.manifest
      assert {:error, %LimitError{allowed: 10_000}} = Executor.call(ready, "spin", [])
    end
  end

  describe "of a component" do
    @describetag :tmp_dir

    @component """
    [component]
    entry = "acme:shop/orders#place"
    [limits]
    memory = 4_000_000
    fuel = 1_000_000
    time_ms = 1_000
    """

    test "a table of that name stands for that of a module, and not for both" do
      manifest = parse!(@component, require_limits: [max_memory: 524_288..4_194_304])
      assert manifest.entry == "acme:shop/orders#place"

      assert message("[component]\nentry = 1") ==
               "module.toml:2: component.entry: expected a text, got 1"

      assert message("[module]\nentry = 'a'\n[component]\nentry = 'b'") =~
               "module.toml:3: component: expected [module] or [component], not both"

      assert message("[plugin]") =~ "known are: module, component, capabilities, limits"
    end

    test "is found beside it as Component.toml, where nothing else is", %{tmp_dir: dir} do
      path = Path.join(dir, "greeter.wasm")
      File.cp!("priv/wasm/greeter.wasm", path)
      load = fn -> Runtime.load_module(path, manifest: true) end

      assert {:error, %ManifestError{reason: :unreadable, file: file}} = load.()
      assert file == Path.join(dir, "module.toml")

      File.write!(Path.join(dir, "Component.toml"), @component)
      assert {:ok, greeter} = load.()
      assert greeter.manifest.file == Path.join(dir, "Component.toml")
      assert greeter.manifest.limits[:fuel] == 1_000_000

      # One of them may grant more than the other.
      File.write!(Path.join(dir, "module.toml"), @component)
      assert {:error, %ManifestError{reason: :unreadable} = error} = load.()
      assert Exception.message(error) =~ "Component.toml is there as well"
    end

    test "has to name one of its functions", %{tmp_dir: dir} do
      manifest =
        parse!(String.replace(@component, "#place", "#line"), file: Path.join(dir, "c.toml"))

      assert {:error, %ManifestError{reason: :module}} =
               Runtime.load_module("priv/wasm/greeter.wasm", manifest: manifest)
    end
  end
end
