defmodule Cybernetic.WASM.Loader.MisreadTest do
  # What was given as a path, and is none.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Named

  alias Cybernetic.WASM.{FreshNode, LoadError, Runtime}

  @moduletag :tmp_dir

  defp message(path, opts \\ []) do
    assert {:error, %LoadError{reason: :not_found} = error} = Runtime.load_module(path, opts)
    Exception.message(error)
  end

  test "a text that is probably something else says how that is loaded", %{tmp_dir: dir} do
    digest = "sha256:" <> String.duplicate("0", 64)
    File.write!(Path.join(dir, "x.wat"), "(module)")

    for {text, words} <- [
          {"https://example.com/x.wasm", "a URL is loaded as {:url, url}"},
          {"oci://example.com/x:1", "is loaded as {:oci, "},
          {"example.com/acme/x:1", ~s|is loaded as {:oci, "example.com/acme/x:1"}|},
          {"file:///x.wasm", "a path stands without file:// before it"},
          {"acme/no-such@1.2", ~s|what a store has is loaded as {:store, "acme/no-such@1.2"}|},
          {digest, "is loaded as {:store, "},
          {Path.join(dir, "x.wasm"), "x.wat is there"},
          {Path.join(dir, "x"), "x.wat is there"},
          {"(component)", "is loaded as {:bytes, binary}"},
          {"", "cannot load an empty path: no such file"}
        ] do
      assert message(text) =~ words
    end
  end

  test "a name that is loaded under says how it is got at" do
    name = name()
    load_numbered!(name, 1)

    for text <- [name, name <> "@0.1"] do
      assert message(text) =~
               ~s|a module is loaded under that name: Cybernetic.WASM.Runtime.module("#{text}") gives it|
    end

    assert message("no/such-name") == "cannot load no/such-name: no such file"
  end

  test "the query of a URL is not shown" do
    message = message("https://example.com/x.wasm?token=hunter2")
    assert message =~ "cannot load https://example.com/x.wasm?…: no such file"
    refute message =~ "hunter2"
  end

  test "where the application does not run it is a path that is not there" do
    code = ~S|{:error, error} = Runtime.load_module("resize"); Exception.message(error)|
    assert FreshNode.eval([], code, start: false) == "cannot load resize: no such file"
  end

  test "what is no source says what it probably is" do
    for {given, words} <- [
          {{:name, "resize"}, "Cybernetic.WASM.Runtime.module/1 gives that"},
          {{:path, "x.wasm"}, "a path is given as it is"},
          {{:https, "//x"}, "a URL is given as {:url, url}"},
          {URI.parse("https://example.com"), "a URL is given as {:url, url}, with a text"},
          {'x.wasm', "a path is a text, in double quotes"},
          {{No.Such, 1}, "No.Such does not implement that, or is not compiled"},
          {Runtime.load_module!({:bytes, "(module)"}), "that is loaded already"},
          {nil, "got: nil"},
          {{:store, "a", "b"}, "{:store, …}, a tuple of 3"}
        ] do
      error = assert_raise ArgumentError, fn -> Runtime.load_module(given) end
      assert error.message =~ "a module is loaded from a path, {:bytes, binary}"
      assert error.message =~ words
    end
  end
end
