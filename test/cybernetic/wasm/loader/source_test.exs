defmodule Cybernetic.WASM.Loader.SourceTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Executor, LoadError, Runtime}
  alias Cybernetic.WASM.Loader.Source

  @answer ~S|(module (func (export "answer") (result i32) i32.const 42))|

  # Answers with whatever function it is given.
  defmodule Anything do
    @behaviour Source

    @impl true
    def fetch({_name, function}, opts), do: function.(opts)

    @impl true
    def describe({name, _function}), do: name

    @impl true
    def name({name, _function}), do: name
  end

  defp load(function, opts \\ []),
    do: Runtime.load_module({Anything, {"anything", function}}, opts)

  defp refused(function, opts \\ []) do
    assert {:error, %LoadError{} = error} = load(function, opts)
    error
  end

  describe "a source of one's own" do
    test "gives the bytes, and a name" do
      assert {:ok, module} = load(fn _opts -> {:ok, @answer, %{}} end)
      assert module.name == "anything"
      assert Executor.call(module, "answer") == {:ok, 42}

      assert {:ok, %{name: "told"}} = load(fn _opts -> {:ok, @answer, %{name: "told"}} end)
    end

    test "is told what it may give" do
      test = self()
      load(fn opts -> send(test, opts) && {:ok, @answer, %{}} end, max_module_size: 1_000)
      assert_receive %{max_size: 1_000, digest: nil, signature: false, manifest: false}
    end

    test "gives an error of the library's, which names the source" do
      error = refused(fn _opts -> {:error, %LoadError{reason: :not_found}} end)
      assert error.source == "anything"
      assert Exception.message(error) == "cannot load anything: no such file"
    end

    test "that gives too many bytes is refused" do
      error = refused(fn _opts -> {:ok, @answer, %{}} end, max_module_size: 10)
      assert %{reason: :too_large, size: 59, allowed: 10} = error
      opts = %{max_size: 10}

      assert %{reason: :too_large, size: 11} =
               refused(fn _ -> {:error, Source.too_large(11, opts)} end)
    end

    test "that raises, throws or exits is an error of the host's" do
      for {function, words} <- [
            {fn _opts -> raise "no\nconnection" end,
             ~S|it raised RuntimeError, "no\nconnection"|},
            {fn _opts -> throw(:ball) end, "it threw :ball"},
            {fn _opts -> exit({:timeout, :call}) end, "it exited: {:timeout, :call}"},
            {fn _opts -> raise ArgumentError, "bad" end, ~S|it raised ArgumentError, "bad"|}
          ] do
        error = refused(function)
        assert %{reason: :source_failed, blame: :host, detail: ^words} = error
        assert Exception.message(error) == "cannot load anything: the source failed: #{words}"
      end
    end

    test "that gives rubbish is an error of the host's, which does not show it" do
      for rubbish <- [
            nil,
            :ok,
            "secret",
            {:ok, "secret"},
            {:ok, 'secret', %{}},
            {:ok, <<1::3>>, %{}},
            {:ok, @answer, []},
            {:ok, @answer, %{name: :atom}},
            {:ok, @answer, %{name: <<255>>}},
            {:ok, @answer, %{"name" => "x"}},
            {:ok, @answer, %{signature: nil}},
            {:ok, @answer, %{signature: String.duplicate("s", 65_537)}},
            {:ok, @answer, %{manifest: 'x'}},
            {:ok, @answer, %{unknown: 1}},
            {:error, :enoent},
            {:error, "secret"},
            {:error, %RuntimeError{message: "secret"}}
          ] do
        error = refused(fn _opts -> rubbish end)
        assert %{reason: :source_failed, blame: :host} = error, inspect(rubbish)
        refute Exception.message(error) =~ "secret"
      end
    end

    test "is not believed to have worked out a digest" do
      digest = "sha256:" <> String.duplicate("0", 64)
      assert {:ok, module} = load(fn _opts -> {:ok, @answer, %{digests: %{blake3: digest}}} end)
      refute module.digest == digest
    end
  end

  describe "priv" do
    test "is the folder of an application" do
      assert {:ok, module} = Runtime.load_module({:priv, :cybernetic_wasm, "wasm/compute.wasm"})
      assert module.name == "compute.wasm"
    end

    test "does not lead out, nor in again" do
      for path <- [
            "../mix.exs",
            "wasm/../../mix.exs",
            "wasm/../wasm/compute.wasm",
            "..",
            "/etc/passwd",
            Path.expand("priv/wasm/compute.wasm")
          ] do
        assert {:error, error} = Runtime.load_module({:priv, :cybernetic_wasm, path})
        assert %LoadError{reason: :outside, detail: "priv of cybernetic_wasm"} = error
      end
    end

    test "of no application, and no file in it" do
      assert {:error, %LoadError{reason: :not_found} = error} =
               Runtime.load_module({:priv, :no_such_application, "x.wasm"})

      assert Exception.message(error) ==
               "cannot load no_such_application/priv/x.wasm: there is no application no_such_application"

      assert {:error, %LoadError{reason: :not_found, source: source}} =
               Runtime.load_module({:priv, :cybernetic_wasm, "x.wasm"})

      assert source == "cybernetic_wasm/priv/x.wasm"
      assert {:error, _} = Runtime.load_module({:priv, :cybernetic_wasm, "x\0.wasm"})
      assert {:error, %{reason: :not_a_file}} = Runtime.load_module({:priv, :cybernetic_wasm, ""})
    end

    test "takes an application and a path" do
      for source <- [
            {:priv, "app", "x"},
            {:priv, :app, 'x'},
            {:priv, :app},
            {:priv, :app, "x", []}
          ] do
        assert_raise ArgumentError, fn -> Runtime.load_module(source) end
      end
    end
  end

  test "what is no source raises with those that there are" do
    for source <- [
          {},
          {:bytes},
          {:bytes, "", []},
          {:unheard_of, "x"},
          {Map, :x},
          {"x", "y"},
          [],
          %{}
        ] do
      error = assert_raise ArgumentError, fn -> Runtime.load_module(source) end

      assert error.message =~
               "a module is loaded from a path, {:bytes, binary}, {:priv, application, path}"
    end

    error = assert_raise ArgumentError, fn -> Runtime.load_module({:byte, "secret"}) end
    refute error.message =~ "secret"
  end
end
