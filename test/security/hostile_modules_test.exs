defmodule Cybernetic.WASM.Security.HostileModulesTest do
  # Whatever is loaded or called, the answer is a struct: never a crash, a hang or a leak.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Guests, Shapes}

  alias Cybernetic.WASM.{Executor, LimitError, LoadError, Module, Runtime}

  @header <<0, "asm", 1, 0, 0, 0>>

  # Loads it, and where that works looks at it and calls all that it exports.
  defp survive(bytes) do
    case Runtime.load_module({:bytes, bytes}) do
      {:ok, module} ->
        for %{name: name, type: {:function, params, _results}} <- Module.exports(module) do
          args = Enum.map(params, &argument/1)
          result = Executor.call(module, name, args, fuel: 100_000, timeout: 1_000)
          assert match?({:ok, _}, result) or match?({:error, %{blame: _}}, result)
        end

        :loaded

      {:error, %LoadError{} = error} ->
        assert is_binary(Exception.message(error))
        :refused
    end
  end

  defp argument(type) when type in ["i32", "i64", "f32", "f64"], do: 0
  defp argument("v128"), do: <<0::128>>
  defp argument(_reference), do: nil

  test "random bytes" do
    check_all(1_000, fn -> assert survive(:rand.bytes(:rand.uniform(200))) == :refused end)
  end

  test "random bytes after a module's header" do
    check_all(1_000, fn -> survive(@header <> :rand.bytes(:rand.uniform(200))) end)
  end

  test "random sections of the right form" do
    check_all(500, fn ->
      sections =
        for _ <- 1..:rand.uniform(5), into: <<>> do
          content = :rand.bytes(:rand.uniform(60))
          <<:rand.uniform(14) - 1, byte_size(content)>> <> content
        end

      survive(@header <> sections)
    end)
  end

  test "a real module cut off anywhere" do
    for name <- ["compute", "digest", "wordcount"] do
      wasm = File.read!("priv/wasm/#{name}.wasm")
      step = max(1, div(byte_size(wasm), 400))

      for length <- 1..(byte_size(wasm) - 1)//step do
        survive(binary_part(wasm, 0, length))
      end
    end
  end

  test "a real module with a byte changed anywhere" do
    wasm = File.read!("priv/wasm/compute.wasm")

    check_all(1_000, fn ->
      at = :rand.uniform(byte_size(wasm)) - 1
      <<before::binary-size(at), _, rest::binary>> = wasm
      survive(<<before::binary, :rand.uniform(256) - 1, rest::binary>>)
    end)
  end

  test "random text" do
    words =
      ~w|( ) module func param result i32 i64 i32.const 1 -5 $x "s" export import memory local.get block end ;; (; ;)|

    check_all(1_000, fn ->
      survive(
        "(module " <> Enum.map_join(1..:rand.uniform(40), " ", fn _ -> Enum.random(words) end)
      )
    end)
  end

  test "a hundred thousand functions" do
    # Written as binary: the same function again and again.
    count = 100_000
    body = <<2, 0, 0x0B>>

    wasm =
      @header <>
        section(1, leb(1) <> <<0x60, 0, 0>>) <>
        section(3, leb(count) <> :binary.copy(<<0>>, count)) <>
        section(7, leb(1) <> <<3, "run", 0>> <> leb(count - 1)) <>
        section(10, leb(count) <> :binary.copy(body, count))

    assert {:ok, module} = Runtime.load_module({:bytes, wasm})
    assert Executor.call(module, "run") == {:ok, nil}
  end

  test "blocks nested a hundred thousand deep" do
    depth = 100_000

    body =
      <<0>> <> :binary.copy(<<0x02, 0x40>>, depth) <> :binary.copy(<<0x0B>>, depth) <> <<0x0B>>

    wasm =
      @header <>
        section(1, leb(1) <> <<0x60, 0, 0>>) <>
        section(3, leb(1) <> <<0>>) <>
        section(7, leb(1) <> <<3, "run", 0, 0>>) <>
        section(10, leb(1) <> leb(byte_size(body)) <> body)

    assert survive(wasm) in [:loaded, :refused]
  end

  test "an expression a hundred thousand deep" do
    depth = 100_000

    body =
      <<0, 0x41, 0>> <>
        :binary.copy(<<0x41, 1>>, depth) <> :binary.copy(<<0x6A>>, depth) <> <<0x0B>>

    wasm =
      @header <>
        section(1, leb(1) <> <<0x60, 0, 1, 0x7F>>) <>
        section(3, leb(1) <> <<0>>) <>
        section(7, leb(1) <> <<3, "run", 0, 0>>) <>
        section(10, leb(1) <> leb(byte_size(body)) <> body)

    assert survive(wasm) in [:loaded, :refused]
  end

  test "text nested a million deep" do
    for source <- [
          String.duplicate("(", 1_000_000),
          "(module (func " <> String.duplicate("(block ", 100_000),
          "(module (func " <>
            String.duplicate("block ", 100_000) <> String.duplicate("end ", 100_000) <> "))",
          "(module " <> String.duplicate("(; ", 100_000)
        ] do
      survive(source)
    end
  end

  test "sections that claim to hold four billion things" do
    for id <- 1..13 do
      assert survive(@header <> section(id, <<0xFF, 0xFF, 0xFF, 0xFF, 0x0F>>)) == :refused
    end
  end

  test "a function with fifty thousand locals, and one that claims four billion" do
    for count <- [50_000, 0xFFFF_FFFF] do
      body = leb(1) <> leb(count) <> <<0x7E, 0x0B>>

      survive(
        @header <>
          section(1, leb(1) <> <<0x60, 0, 0>>) <>
          section(3, leb(1) <> <<0>>) <>
          section(7, leb(1) <> <<3, "run", 0, 0>>) <>
          section(10, leb(1) <> leb(byte_size(body)) <> body)
      )
    end
  end

  test "more imports than anybody needs" do
    imports = for n <- 1..10_001, do: ~s|(import "e" "#{n}" (func))|

    assert {:error, %LoadError{reason: :unsupported} = error} =
             Runtime.load_module({:bytes, "(module #{imports})"})

    assert Exception.message(error) =~ "10001 imports, at most 10000"
  end

  test "a module of ten megabytes" do
    # All of it is one custom section, which costs nothing but its reading.
    padding = 10_000_000 - byte_size(@header) - 10
    wasm = @header <> section(0, <<1, "x">> <> :binary.copy(<<0>>, padding))
    assert byte_size(wasm) in 9_999_000..10_000_000
    assert {:ok, module} = Runtime.load_module({:bytes, wasm})
    assert [%{name: "x"}] = Module.custom_sections(module)

    assert {:error, %LoadError{reason: :too_large}} =
             Runtime.load_module({:bytes, wasm <> section(0, <<0>> <> :binary.copy("y", 1_000))})
  end

  test "memories, tables and data segments by the thousand" do
    for {declaration, most} <- [
          {"(memory 0)", 200},
          {"(table 0 funcref)", 200},
          {"(global i32 (i32.const 1))", 20_000}
        ] do
      survive("(module #{String.duplicate(declaration, most)} (func (export \"run\")))")
    end
  end

  test "a data segment as large as a module may be" do
    data = :binary.copy("x", 5_000_000)

    assert {:ok, module} =
             Runtime.load_module(
               {:bytes,
                ~s|(module (memory 100) (data (i32.const 0) "#{data}") (func (export "run")))|}
             )

    assert Executor.call(module, "run") == {:ok, nil}

    assert {:error, %LimitError{limit: :memory}} =
             Executor.call(module, "run", [], max_memory: 1_000_000)
  end

  test "a hundred guests that all ask for as much as they may have" do
    module =
      load!(
        ~S|(module (memory 1000) (func (export "run") (memory.fill (i32.const 0) (i32.const 1) (i32.const 1000000))))|
      )

    results =
      1..100
      |> Task.async_stream(fn _ -> Executor.call(module, "run") end,
        max_concurrency: 100,
        timeout: :infinity
      )
      |> Enum.map(fn {:ok, result} -> result end)

    assert Enum.all?(results, &(&1 == {:ok, nil}))
  end

  defp section(id, content), do: <<id>> <> leb(byte_size(content)) <> content

  defp leb(value) when value < 128, do: <<value>>
  defp leb(value), do: <<1::1, Bitwise.band(value, 127)::7>> <> leb(Bitwise.bsr(value, 7))
end
