defmodule Cybernetic.WASM.LoaderTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{LoadError, Runtime}

  doctest Cybernetic.WASM.Loader

  @answer ~S|(module (func (export "answer") (result i32) i32.const 42))|
  @header <<0, "asm", 1, 0, 0, 0>>

  defp refused(source, opts \\ []) do
    assert {:error, %LoadError{blame: :caller} = error} = Runtime.load_module(source, opts)
    assert Exception.message(error) =~ "cannot load"
    error
  end

  defp scratch(content) do
    path = Path.join(System.tmp_dir!(), "guest_#{System.unique_integer([:positive])}.wasm")
    File.write!(path, content)
    on_exit(fn -> File.rm(path) end)
    path
  end

  describe "a path" do
    test "that is not there" do
      error = refused("no/such/module.wasm")
      assert error.reason == :not_found
      assert error.source == "no/such/module.wasm"
      assert Exception.message(error) == "cannot load no/such/module.wasm: no such file"
    end

    test "that goes through a file as if it were a folder" do
      assert refused("mix.exs/module.wasm").reason == :not_found
    end

    test "that is empty" do
      assert refused("").reason == :not_found
    end

    test "with a NUL in it" do
      assert refused("priv/wasm/compute.wasm\0.txt").reason == :not_found
    end

    test "that is a module itself is told how bytes are loaded" do
      for module <- [File.read!("priv/wasm/compute.wasm"), "(module)"] do
        error = refused(module)
        assert error.reason == :not_found
        assert Exception.message(error) =~ "is loaded as {:bytes, binary}"
        assert String.printable?(Exception.message(error))
      end
    end

    test "that is a directory" do
      assert %{reason: :not_a_file, detail: "directory"} = refused("priv")
    end

    test "that is a device is not read: it has no end" do
      assert %{reason: :not_a_file, detail: "device"} = refused("/dev/zero")
    end

    test "that is a pipe is not opened: nobody may ever write into it" do
      path = Path.join(System.tmp_dir!(), "pipe_#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm(path) end)
      assert {_, 0} = System.cmd("mkfifo", [path])
      assert refused(path).reason == :not_a_file
    end

    test "that goes round in links" do
      path = Path.join(System.tmp_dir!(), "loop_#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm(path) end)
      File.ln_s!(path, path)
      assert %{reason: :unreadable, detail: detail} = refused(path)
      assert detail =~ "symbolic links"
    end

    test "that is longer than a path can be" do
      assert %{reason: :unreadable} = refused(String.duplicate("x", 5_000))
    end

    test "that nobody may read" do
      path = scratch(@answer)
      File.chmod!(path, 0o000)

      case File.read(path) do
        {:error, :eacces} ->
          assert %{reason: :unreadable, detail: "permission denied"} = refused(path)

        {:ok, _} ->
          # Root reads everything but what is no memory of this process: its first page.
          assert %{reason: :unreadable} = refused("/proc/self/mem")
      end
    end

    test "of an empty file" do
      assert %{reason: :not_wasm, detail: "the source is empty"} = refused(scratch(""))
    end

    test "whose file says that it is empty but is not is measured by what it gives" do
      # The files of /proc have no size.
      assert %{reason: :not_wasm} = refused("/proc/version")
      assert %{reason: :too_large} = refused("/proc/version", max_module_size: 10)
    end

    test "of a file as large as allowed, and of one a byte larger" do
      path = scratch(@answer)
      assert {:ok, _} = Runtime.load_module(path, max_module_size: byte_size(@answer))

      error = refused(path, max_module_size: byte_size(@answer) - 1)
      assert %{reason: :too_large, source: ^path} = error
      assert {error.size, error.allowed} == {byte_size(@answer), byte_size(@answer) - 1}
      assert Exception.message(error) =~ "option :max_module_size"
    end
  end

  describe "bytes" do
    test "of the wrong size" do
      assert %{reason: :too_large, size: 9, allowed: 8} =
               refused({:bytes, "123456789"}, max_module_size: 8)
    end

    test "beyond the default ceiling" do
      assert %{reason: :too_large, allowed: 10_000_000} =
               refused({:bytes, String.duplicate(<<0>>, 10_000_001)})
    end

    test "of nothing" do
      assert %{reason: :not_wasm, source: :bytes, detail: "the source is empty"} =
               refused({:bytes, ""})
    end

    test "of something else" do
      assert %{reason: :not_wasm, detail: detail} = refused({:bytes, <<127, "ELF", 0>>})
      assert detail == "it starts with the bytes 7f 45 4c 46 00"
      assert %{reason: :not_wasm} = refused({:bytes, "not a module"})
      assert %{reason: :not_wasm} = refused({:bytes, <<255, 254, 253>>})
    end

    test "that are only the magic number" do
      assert %{reason: :invalid, offset: 4} = refused({:bytes, <<0, "asm">>})
    end

    test "of another version" do
      assert %{reason: :invalid, offset: 4} = refused({:bytes, <<0, "asm", 9, 0, 0, 0>>})
    end

    test "that end too early, or that are wrong in the middle" do
      wasm = File.read!("priv/wasm/compute.wasm")
      error = refused({:bytes, binary_part(wasm, 0, 20)})
      assert error.reason == :invalid
      assert error.offset in 8..20
      assert Exception.message(error) =~ "invalid at offset #{error.offset}: "

      # A section that no version has.
      assert %{reason: :invalid, offset: 10} = refused({:bytes, @header <> <<99, 0>>})
    end

    test "of a function that does not type" do
      error = refused({:bytes, ~S|(module (func (result i32) (i64.const 1)))|})
      assert error.reason == :invalid
      assert error.detail =~ "type mismatch"
      assert error.offset > 8
    end
  end

  describe "text" do
    test "that does not parse is placed by line and column" do
      error = refused({:bytes, "(module\n  (func (export \"x\")\n    (i32.frob)))"})
      assert %{reason: :invalid_text, line: 3, column: column} = error
      assert column in 5..6
      assert Exception.message(error) =~ "line 3, column #{column}: "
    end

    test "that ends in the middle" do
      assert %{reason: :invalid_text, line: 1} = refused({:bytes, "(module (func"})
    end

    test "that names what is not there" do
      assert %{reason: :invalid_text, detail: detail} =
               refused({:bytes, "(module (func (call $nobody)))"})

      assert detail =~ "nobody"
    end

    test "that is not a module" do
      assert %{reason: :invalid_text} = refused({:bytes, "(hello world)"})
    end
  end

  describe "a feature" do
    @simd ~S|(module (func (export "v") (result v128) (v128.const i64x2 1 2)))|

    test "that is switched off is named" do
      assert {:ok, _} = Runtime.load_module({:bytes, @simd})
      error = refused({:bytes, @simd}, features: [simd: false])
      assert %{reason: :unsupported_feature, feature: "simd"} = error
      assert error.offset > 0
      assert Exception.message(error) =~ "needs the feature simd, which is off"
    end

    test "can be switched off, each of them" do
      needing = [
        simd: @simd,
        relaxed_simd:
          ~S|(module (func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1))))|,
        bulk_memory:
          ~S|(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))|,
        multi_value: ~S|(module (func (result i32 i32) (i32.const 1) (i32.const 2)))|,
        reference_types: ~S|(module (func (param externref)))|,
        function_references:
          ~S|(module (type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0))))|,
        gc: ~S|(module (type (struct (field i32))))|,
        tail_call: ~S|(module (func $f (return_call $f)))|,
        multi_memory: ~S|(module (memory 1) (memory 1))|,
        memory64: ~S|(module (memory i64 1))|,
        extended_const: ~S|(module (global i32 (i32.add (i32.const 1) (i32.const 2))))|,
        exceptions: ~S|(module (tag))|
      ]

      for {feature, source} <- needing do
        assert {:ok, _} = Runtime.load_module({:bytes, source}), "#{feature} should be on"
        error = refused({:bytes, source}, features: [{feature, false}])
        assert error.reason == :unsupported_feature, "#{feature}: #{inspect(error)}"
        assert error.feature == to_string(feature)
      end
    end

    test "left on says nothing" do
      assert {:ok, _} = Runtime.load_module({:bytes, @simd}, features: [simd: true])
      assert {:ok, _} = Runtime.load_module({:bytes, @simd}, features: [])
    end

    test "that is always off is named too: threads" do
      error = refused({:bytes, ~S|(module (memory 1 1 shared))|})
      assert %{reason: :unsupported_feature, feature: "threads"} = error
      assert Exception.message(error) =~ "the feature threads, which is not supported"
    end
  end

  describe "options" do
    test "that are unknown raise with the known ones" do
      error =
        assert_raise ArgumentError, fn ->
          Runtime.load_module({:bytes, @answer}, fule: 1)
        end

      assert error.message =~ "unknown load option :fule"

      for known <- [:metering, :deterministic, :features, :max_module_size] do
        assert error.message =~ inspect(known)
      end
    end

    test "with wrong values raise with what they take" do
      for {opts, expected} <- [
            {[max_module_size: 0], "an integer from 1 to"},
            {[max_module_size: -1], "an integer from 1 to"},
            {[max_module_size: "10"], "an integer from 1 to"},
            {[metering: :none], "one of :fuel, :epoch"},
            {[deterministic: nil], "true or false"},
            {[features: [threads: true]], ":simd"},
            {[features: [simd: 1]], "booleans"},
            {[features: :simd], "keyword list"}
          ] do
        [{name, _}] = opts

        error = assert_raise ArgumentError, fn -> Runtime.load_module({:bytes, @answer}, opts) end

        assert error.message =~ "option #{inspect(name)} must be"
        assert error.message =~ expected
      end
    end

    test "that are no keyword list raise" do
      for opts <- [%{metering: :fuel}, [:metering], :metering, [{"metering", :fuel}]] do
        assert_raise ArgumentError, ~r/keyword list/, fn ->
          Runtime.load_module({:bytes, @answer}, opts)
        end
      end
    end
  end

  test "a source of another shape raises" do
    for source <- [
          nil,
          :path,
          42,
          {:file, "x"},
          {:bytes, nil},
          {:bytes, 'chars'},
          {:bytes, <<1::3>>}
        ] do
      assert_raise ArgumentError, fn -> Runtime.load_module(source) end
    end
  end
end
