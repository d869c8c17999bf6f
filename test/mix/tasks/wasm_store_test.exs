defmodule Mix.Tasks.Wasm.StoreTest do
  # Not async: standard error is the whole VM's.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.StoreFolders, only: [store_folder: 1]
  import Cybernetic.WASM.Terminal

  alias Cybernetic.WASM.JSON

  setup :store_folder

  setup %{around: around} do
    file = Path.join(around, "one.wasm")
    File.write!(file, "one")
    {:ok, wasm: file}
  end

  defp store(context, words, input \\ ""),
    do: run("wasm.store", words ++ ["--store", context.store], input)

  defp json(context, words) do
    {status, output, ""} = store(context, words ++ ["--json"])
    {:ok, facts} = JSON.decode(output, 100_000)
    {status, facts}
  end

  test "puts, gets, lists", context do
    put = ["put", context.wasm, "--name", "acme/x", "--version", "1.2.0", "--note", "first"]
    assert {0, line, ""} = store(context, put)
    assert line =~ ~r/\Aacme\/x@1.2.0 blake3:[0-9a-f]{64} 3 bytes first\n\z/
    assert {0, ^line, ""} = store(context, ["list"])
    assert {0, ^line, ""} = store(context, ["versions", "acme/x"])
    assert {0, "one", ""} = store(context, ["get", "acme/x@~> 1.0"])

    copy = Path.join(context.around, "copy")
    assert {0, output, ""} = store(context, ["get", "acme/x", "--output", copy])
    assert {output, File.read!(copy)} == {"#{copy}: 3 bytes\n", "one"}
  end

  test "takes bytes from standard input, and gives them as they are", context do
    bytes = <<0, "asm", 255, 10>>
    assert {0, "x@0.1.0 blake3:" <> _, ""} = store(context, ["put", "-", "--name", "x"], bytes)
    copy = Path.join(context.around, "copy")
    assert {0, _output, ""} = store(context, ["get", "x", "--output", copy])
    assert File.read!(copy) == bytes
  end

  test "prunes, deletes, collects", context do
    for {bytes, version} <- [{"1", "1.0.0"}, {"2", "1.1.0"}, {"3", "1.2.0"}],
        do: {0, _, ""} = store(context, ["put", "-", "--name", "x", "--version", version], bytes)

    assert store(context, ["prune", "--keep", "2"]) == {0, "dropped x@1.0.0\n", ""}
    assert store(context, ["prune", "--keep", "2"]) == {0, "", ""}
    assert store(context, ["delete", "x@1.1.0"]) == {0, "dropped x@1.1.0\n", ""}
    assert store(context, ["gc"]) == {0, "dropped 2 blobs, 2 bytes\n", ""}
    assert store(context, ["verify"]) == {0, "sound: 1 blobs, 1 bytes, 1 versions\n", ""}
  end

  test "says the same as JSON", context do
    put = ["put", context.wasm, "--name", "x", "--by", "Ada"]
    assert {0, %{"name" => "x", "version" => "0.1.0", "by" => "Ada"} = facts} = json(context, put)
    assert %{"digest" => "blake3:" <> _, "sha256" => "sha256:" <> _, "size" => 3} = facts
    assert {:ok, _at, 0} = DateTime.from_iso8601(facts["at"])
    assert json(context, ["list"]) == {0, %{"names" => [facts]}}
    assert json(context, ["versions", "x"]) == {0, %{"versions" => [facts]}}

    copy = Path.join(context.around, "copy")
    assert {0, %{"output" => ^copy}} = json(context, ["get", "x", "--output", copy])
    assert json(context, ["prune", "--keep", "1"]) == {0, %{"dropped" => []}}
    assert json(context, ["gc"]) == {0, %{"blobs" => 0, "bytes" => 0}}
    assert {0, %{"blobs" => 1, "damaged" => [], "missing" => []}} = json(context, ["verify"])
    assert json(context, ["delete", "x@0.1.0"]) == {0, %{"dropped" => ["x@0.1.0"]}}

    assert {2, %{"error" => error}} = json(context, ["get", "x", "--output", copy])
    assert %{"kind" => "store", "reason" => "no_such_name", "blame" => "caller"} = error
  end

  test "ends with 1 where something is damaged, and names it", context do
    {0, facts} = json(context, ["put", context.wasm, "--name", "x"])
    context.harm.blob.(facts["digest"])
    assert {1, "", errors} = store(context, ["get", "x"])
    assert errors =~ "damaged"
    assert {1, output, ""} = store(context, ["verify"])
    assert output =~ "damaged, set aside: #{facts["digest"]}\n"
    assert output =~ "missing the bytes of: x@0.1.0\n"
    assert output =~ "what is put there again, by the same name and version, is sound again"
    assert {1, "", errors} = store(context, ["get", "x"])
    assert errors =~ "the bytes of x@0.1.0 are gone: put the same ones there again"
    assert {0, _, ""} = store(context, ["put", context.wasm, "--name", "x"])
    assert {0, "one", ""} = store(context, ["get", "x"])
  end

  test "gives no bytes to a terminal", context do
    ebin = Application.app_dir(:cybernetic_wasm, "ebin")
    code = "Mix.Tasks.Wasm.CommandLine.terminal?() |> IO.inspect()"
    command = "elixir -pa '#{ebin}' -e '#{code}'"
    assert {"true" <> _, 0} = System.cmd("script", ["-qec", command, "/dev/null"])
    assert {"false\n", 0} = System.cmd("sh", ["-c", command])
    out = Path.join(context.around, "out")
    {"", 0} = System.cmd("sh", ["-c", command <> " > '#{out}'"])
    assert File.read!(out) == "false\n"
  end

  test "needs a store that is there, but to put something into it", context do
    away = Path.join(context.around, "away")

    for words <- [
          ["list"],
          ["get", "x"],
          ["versions", "x"],
          ["delete", "x@1.0.0"],
          ["gc"],
          ["verify"]
        ] do
      assert {2, "", errors} = run("wasm.store", words ++ ["--store", away])
      assert errors =~ "--store: there is no folder #{away}; put makes it"
      refute File.exists?(away)
    end

    assert {0, _, ""} = run("wasm.store", ["put", context.wasm, "--store", away])
    assert {0, "", ""} = run("wasm.store", ["list", "--store", away])
  end

  test "ends with 2 where the user is mistaken, and says how", context do
    {0, _, ""} = store(context, ["put", context.wasm])

    for {words, part} <- [
          {[], "a command is missing; there are: delete, gc"},
          {["prnue"], "unknown command prnue"},
          {["list", "x"], "list takes no arguments"},
          {["versions"], "NAME is missing"},
          {["versions", "x", "y"], "versions takes one NAME"},
          {["list", "--keep", "1"], "list has no option --keep"},
          {["prune"], "prune needs --keep"},
          {["prune", "--keep", "0"], "--keep is at least 1"},
          {["put", context.wasm, "--version", "1.0.0"], "give --name"},
          {["get", "x", "--json"], "needs --output"},
          {["put", "/nowhere.wasm"], "/nowhere.wasm: no such file"},
          {["put", context.wasm, "--name", "../x"], "is no name"},
          {["put", context.wasm, "--name", "x", "--version", "1"], "is no version"},
          {["get", "x"], "there is no x"},
          {["delete", "x"], "there is no x"},
          {["list", "--colour"], "unknown option --colour"}
        ] do
      {2, output, errors} = store(context, words)
      assert output <> errors =~ part, inspect(words)
    end

    assert {2, "", errors} = run("wasm.store", ["list", "--store", ""])
    assert errors =~ "--store needs a folder"
    assert {0, "usage: mix wasm.store" <> _, ""} = run("wasm.store", ["--help"])
  end
end
