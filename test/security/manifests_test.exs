defmodule Cybernetic.WASM.Security.ManifestsTest do
  # A manifest comes with its module, from the same stranger. Whatever stands in it, the answer is a manifest or an error that
  # names the place, and nothing that was written wrong is taken for a grant.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Eventually, only: [elsewhere: 1]

  alias Cybernetic.WASM.{DeniedError, ManifestError, Sandbox}
  alias Cybernetic.WASM.Sandbox.Manifest
  alias Cybernetic.WASM.Sandbox.Manifest.Reader

  # Of the wrong kind for all keys.
  @odd [
    "1.5",
    "nan",
    "-inf",
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "[[]]",
    "[{}]",
    "{ x = 1 }",
    ~S|"\u0000"|
  ]

  @texts ["true", "0", ~S|""|, "[]", ~S|["a"]|]
  @flags [~S|"true"|, ~S|""|, "1", "[]", "[true]"]
  @numbers [~S|"1"|, "-1", "true", "[]", "[1]", "281474976710656"]
  @words [~S|""|, ~S|"all"|, "true", "1", "[]", ~S|["captured"]|]

  @wrong %{
    module: %{
      "name" => @texts,
      "version" => @texts ++ [~S|"1"|, ~S|"1.0"|, ~S|"one"|, ~S|"1.0.0.0"|, ~S|" 1.0.0"|],
      "entry" => @texts,
      "digest" =>
        @texts ++
          [
            ~S|"blake3:"|,
            ~s|"blake3:#{String.duplicate("A", 64)}"|,
            ~s|"blake3:#{String.duplicate("a", 63)}"|,
            ~s|"blake3:#{String.duplicate("a", 65)}"|,
            ~s|"blake3:#{String.duplicate("a", 64)}\\n"|,
            ~s|"sha512:#{String.duplicate("a", 64)}"|,
            ~s|"sha256:#{String.duplicate("A", 64)}"|,
            ~s|"sha256:#{String.duplicate("a", 63)}"|
          ]
    },
    capabilities: %{
      "memory" => @flags,
      "threading" => @flags,
      "wasi" => @flags,
      "filesystem" => [
        "true",
        "1",
        ~S|"data"|,
        ~S|["data"]|,
        ~S|[["data", "/data"]]|,
        ~S|{ host = "a", guest = "/a" }|,
        "[{}]",
        ~S|[{ host = "a" }]|,
        ~S|[{ guest = "/a" }]|,
        ~S|[{ host = "", guest = "/a" }]|,
        ~S|[{ host = "a", guest = "" }]|,
        ~S|[{ host = "a", guest = "a" }]|,
        ~S|[{ host = "a", guest = "/a/../.." }]|,
        ~S|[{ host = "a", guest = "/a\u0000" }]|,
        ~S|[{ host = "a\u0000", guest = "/a" }]|,
        ~S|[{ host = "/", guest = "/a" }]|,
        ~S|[{ host = "..", guest = "/a" }]|,
        ~S|[{ host = "a/../../b", guest = "/a" }]|,
        ~S|[{ host = "a", guest = "/a", mode = "rwx" }]|,
        ~S|[{ host = "a", guest = "/a", mode = true }]|,
        ~S|[{ host = "a", guest = "/a", write = true }]|,
        ~S|[{ host = "a", guest = "/a" }, { host = "b", guest = "/a" }]|,
        ~S|[{ host = "a", guest = "/a" }, false]|
      ],
      "scratch" => [
        "true",
        "1",
        ~S|""|,
        ~S|"tmp"|,
        ~S|"/tmp/.."|,
        ~S|"/\u0000"|,
        "[]",
        ~S|["/tmp"]|
      ],
      "null" => ["true", "1", ~S|""|, ~S|"/dev/zero"|, ~S|"dev/null"|, ~S|["/dev/null"]|],
      "times" => ["true", "1", ~S|""|, ~S|"none"|, ~S|["real"]|],
      "quota" => @numbers,
      "max_open" => @numbers,
      "network" => [
        "true",
        "1",
        ~S|"a:1"|,
        ~S|[""]|,
        "[1]",
        ~S|["a"]|,
        ~S|["a:1", "b:99999"]|,
        ~S|["a:b"]|,
        ~S|["*"]|,
        ~S|["10.0.0.0/33:1"]|,
        ~S|["icmp://a:1"]|,
        ~S|{ allow = "a:1" }|,
        ~S|{ allow = ["a:1"], dns = "yes" }|,
        ~S|{ deny = ["a:1"] }|
      ],
      "env" => [
        "true",
        "1",
        ~S|""|,
        ~S|"LANG"|,
        "[1]",
        ~S|[""]|,
        ~S|["A=B"]|,
        ~S|["AWS_*"]|,
        ~S|["API_KEY"]|,
        ~S|["LANG", "LANG"]|,
        ~S|[{ name = "A", value = 1 }]|,
        ~S|[{ name = "A", value = "\u0000" }]|,
        ~S|[{ name = "API_KEY", secret = false }]|,
        ~S|[{ name = "A", value = "a", secret = true }]|,
        ~S|[{ value = "a" }]|,
        ~S|[{ A = "a" }]|,
        "{ A = 1 }",
        ~S|{ "A=B" = "a" }|,
        ~s|{ A = "#{String.duplicate("a", 60_000)}\\u0000" }|
      ],
      "clocks" =>
        @words ++
          [
            "{}",
            "{ fixed = -1 }",
            ~S|{ fixed = "now" }|,
            "{ start = 1 }",
            "{ step = 1 }",
            "{ start = 1, step = 0 }",
            "{ start = 1, step = -1 }",
            "{ fixed = 1, start = 1, step = 1 }"
          ],
      "random" => @words ++ ["{}", "{ seed = -1 }", ~S|{ seed = "a" }|, "{ seed = 1.0 }"],
      "stdio" =>
        @words ++ ["{ stdin = true }", ~S|{ stdout = "file" }|, ~S|{ stdlog = "captured" }|],
      "host_functions" => [
        "true",
        "1",
        ~S|"env.log"|,
        "[1]",
        ~S|[""]|,
        ~S|["log"]|,
        ~S|["a.b.c"]|,
        ~S|[{ module = "a" }]|,
        ~S|[{ name = "a" }]|,
        ~S|[{ module = 1, name = "a" }]|
      ]
    },
    limits: %{
      "memory" => ["0" | @numbers],
      "stack" => ["0", "16383", "67108865" | @numbers],
      "fuel" => ["0" | @numbers],
      "time_ms" => ["0", "4294967296" | @numbers],
      "output" => @numbers,
      "host_calls" => @numbers,
      "transfer" => @numbers,
      "resources" => @numbers,
      "table_elements" => @numbers,
      "instances" => @numbers
    }
  }

  defp refused(text),
    do: assert({:error, _} = Manifest.parse(text, file: "module.toml")) |> elem(1)

  # Both values are ones that an unwary reader might have taken for the other.
  test "the table has every key" do
    for {table, keys} <- Reader.keys(),
        do: assert(Enum.sort(keys) == Enum.sort(Map.keys(@wrong[table])))
  end

  test "every key wrong in turn is an error with file, line, key and what was expected" do
    for {table, keys} <- @wrong, {key, values} <- keys, value <- values ++ @odd do
      # One table may stand where another does, and an odd text may be a name.
      unless taken?(key, value) do
        text = "# a line\n[#{table}]\n\n#{key} = #{value}\n"
        assert %ManifestError{} = error = refused(text), "#{key} = #{value}"
        assert %{file: "module.toml", line: 4, blame: :caller} = error
        assert String.starts_with?(error.key, "#{table}.#{key}"), "#{error.key} for #{text}"
        message = Exception.message(error)
        assert String.starts_with?(message, "module.toml:4: #{error.key}: "), message
        assert message =~ "expected" or message =~ "known are:"
        assert byte_size(message) < 2_000
      end
    end
  end

  defp taken?("name", ~S|"\u0000"|), do: true
  defp taken?("entry", ~S|"\u0000"|), do: true
  defp taken?(_key, _value), do: false

  test "every key misspelt is an error that lists the known ones" do
    for {table, keys} <- Reader.keys(), key <- keys do
      for wrong <- [
            key <> "s",
            String.upcase(key),
            ~s|"#{key} "|,
            ~s|"#{key}\\u0000"|,
            "x" <> key
          ] do
        error = refused("[#{table}]\n#{wrong} = true")
        assert %ManifestError{reason: :unknown_key, line: 2, known: ^keys} = error
      end
    end

    for wrong <- ["Module", "limit", ~S|"capabilities "|, "permissions"] do
      assert %ManifestError{reason: :unknown_key, line: 1} = refused("[#{wrong}]\nmemory = true")
    end

    for table <- ["module", "capabilities", "limits"], value <- @odd -- ["{ x = 1 }"] do
      assert %ManifestError{reason: :value, key: ^table, line: 1} = refused("#{table} = #{value}")
    end
  end

  test "a key that stands twice is an error, and neither counts" do
    for text <- [
          "[limits]\nfuel = 1\nfuel = 2",
          "[limits]\nfuel = 1\n[limits]\nfuel = 2",
          "limits.fuel = 1\n[limits]\nfuel = 2",
          "[limits]\nfuel = 1\n[[limits]]\nfuel = 2",
          ~s|[limits]\nfuel = 1\n"fuel" = 2|
        ] do
      assert %ManifestError{reason: :syntax} = refused(text)
    end
  end

  test "threads are denied in every form" do
    assert %DeniedError{capability: :threading} = refused("[capabilities]\nthreading = true")
    assert %DeniedError{capability: :threading} = refused("capabilities = { threading = true }")
    assert %DeniedError{capability: :threading} = refused("capabilities.threading = true")
  end

  test "random bytes are an error" do
    for _ <- 1..500 do
      bytes = :crypto.strong_rand_bytes(:rand.uniform(200))
      with {:error, error} <- Manifest.parse(bytes), do: assert(Exception.message(error) != "")
    end

    assert %ManifestError{reason: :syntax, line: 2} = refused("a = 1\nb = \"\xff\"")
  end

  test "any mix of words is a manifest or an error" do
    words =
      ~w([module] [capabilities] [limits] [[capabilities.filesystem]] memory = true false 1 "a" 'b' [ ] { } , . \n \n \n env
         network host guest clocks fixed # \" ''' """ 0x 1e9 inf)

    for _ <- 1..2_000 do
      text =
        1..30 |> Enum.map_join(" ", fn _ -> Enum.random(words) end) |> String.replace("\\n", "\n")

      case Manifest.parse(text) do
        {:ok, manifest} -> assert %Sandbox{} = Manifest.to_sandbox(manifest)
        {:error, error} -> assert byte_size(Exception.message(error)) < 2_000
      end
    end
  end

  @tag :tmp_dir
  test "a huge one is refused before it is read whole", %{tmp_dir: dir} do
    path = Path.join(dir, "module.toml")
    {:ok, file} = :file.open(path, [:write, :raw])
    {:ok, _} = :file.position(file, 10_000_000_000)
    :ok = :file.truncate(file)
    :ok = :file.close(file)
    assert {:error, %ManifestError{reason: :syntax} = error} = Manifest.load(path)
    assert Exception.message(error) =~ "more than 65536 bytes"

    assert refused(String.duplicate("#", 50_000_000)).got =~ "more than 65536 bytes"
    assert {:ok, _} = Manifest.parse(String.duplicate("#", 65_536))
  end

  test "one that nests deeply is refused" do
    for text <- [
          "a = " <> String.duplicate("[", 30_000),
          "a = " <> String.duplicate("[", 30_000) <> String.duplicate("]", 30_000),
          "a = " <> String.duplicate("{a=", 20_000),
          String.duplicate("a.", 30_000) <> "a = 1",
          "[" <> String.duplicate("a.", 30_000) <> "a]",
          "a = " <> String.duplicate("[", 17) <> String.duplicate("]", 17),
          # The parser bounds brackets and the dots of one key, but not their product.
          Enum.reduce(1..78, "1", fn _, inner -> "{#{String.duplicate("a.", 78)}a=#{inner}}" end)
          |> then(&("a = " <> &1))
        ] do
      assert %ManifestError{reason: :syntax} = refused(text)
    end
  end

  test "many keys and long ones take no more work than they have letters" do
    many = fn count -> for n <- 1..count, into: "", do: "k#{n} = 1\n" end
    long = fn count -> "[capabilities]\n#{String.duplicate("k", 10 * count)} = 1" end
    dirs = fn count -> for n <- 1..div(count, 4), do: "{ host = 'a', guest = '/#{n}' }," end
    names = fn count -> for n <- 1..count, do: "'V#{n}'," end

    for text <- [
          many,
          long,
          &"[capabilities]\nfilesystem = [#{dirs.(&1)}]",
          &"[capabilities]\nenv = [#{names.(&1)}]"
        ] do
      # Four times as many, and not sixteen times the work.
      {few, many} = {text.(400), text.(1_600)}
      assert work(many) / work(few) < 2 * byte_size(many) / byte_size(few)
    end

    assert byte_size(Exception.message(refused(long.(5_000)))) < 1_000
  end

  # In what the VM counts, whatever time that takes. It counts some time as well: the least of several is the work alone.
  defp work(text), do: Enum.min(for _ <- 1..4, do: elsewhere(fn -> reductions(text) end))

  defp reductions(text) do
    {:reductions, before} = Process.info(self(), :reductions)
    Manifest.parse(text)
    {:reductions, later} = Process.info(self(), :reductions)
    later - before
  end

  test "no atom is made of what stands in it" do
    read = fn ->
      n = System.unique_integer([:positive])
      Manifest.parse("[näme#{n}]\nx#{n} = 1" |> String.replace("ä", "a"))
      Manifest.parse("[capabilities]\n\"ä#{n}\" = 1")
      Manifest.parse("[capabilities]\nenv = { V#{n} = 'v#{n}' }\nnetwork = ['h#{n}:1']")
      Manifest.parse("[capabilities]\nstdio = 'w#{n}'\n")

      Manifest.parse(
        "[capabilities]\nhost_functions = ['m#{n}.f#{n}']\n[module]\nentry = 'e#{n}'"
      )

      Manifest.parse("k#{n} = #{n}\n#{n} 'x#{n}'")
    end

    read.()
    before = :erlang.system_info(:atom_count)
    for _ <- 1..100, do: read.()
    assert :erlang.system_info(:atom_count) == before
  end

  test "an error shows no control sequence of a key or value" do
    for text <- [
          ~S|"\u001b[2J" = 1|,
          ~S|[capabilities]| <> "\n" <> ~S|memory = "\u001b[2J"|,
          ~S|[capabilities.env]| <> "\n" <> ~S|"\u001b[2J" = 1|,
          "[capabilities]\n" <> ~S|clocks = { "\u001b" = 1 }|
        ] do
      refute Exception.message(refused(text)) =~ "\e"
    end
  end
end
