defmodule Cybernetic.WASM.NativeTest do
  # A library that cannot be loaded once ended in `undef`: of a function that is there to see.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.FreshNode

  @moduletag :tmp_dir
  @library "priv/native/cybernetic_wasm.so"

  # The application with this for its library; `nil` is none.
  defp ebin(folder, library) do
    own = Application.app_dir(:cybernetic_wasm)
    app = Path.join(folder, "cybernetic_wasm")
    File.mkdir_p!(Path.join(app, "priv/native"))
    File.cp_r!(Path.join(own, "ebin"), Path.join(app, "ebin"))
    if library, do: File.write!(Path.join(app, @library), library)
    Path.join(app, "ebin")
  end

  defp library, do: :cybernetic_wasm |> Application.app_dir(@library) |> File.read!()

  # The same but for the kind of machine, which stands at byte 18 of the ELF header.
  defp for_another_machine do
    <<before::binary-size(18), _machine::little-16, rest::binary>> = library()
    <<before::binary, 0xFFF0::little-16, rest::binary>>
  end

  # As one that was built where glibc is newer: it needs a version that there is not.
  defp for_a_newer_glibc do
    with [version] <- Regex.run(~r/GLIBC_2\.\d\d/, library()) do
      newer = String.replace(version, "GLIBC_2", "GLIBC_9")
      {:binary.replace(library(), version, newer, [:global]), "the C library is newer"}
    end
  end

  defp cases do
    List.wrap(for_a_newer_glibc()) ++
      [
        {nil, "`mix compile` builds it"},
        {"", "`mix compile --force`"},
        {binary_part(library(), 0, 100_000), "`mix compile --force`"},
        {binary_part(library(), 0, byte_size(library()) - 1), "`mix compile --force`"},
        {"no library", "`mix compile --force`"},
        {for_another_machine(), "was built for another system"}
      ]
  end

  @cannot "the native library of Cybernetic.WASM cannot be loaded: "

  test "a library that cannot be loaded says why when the application starts", context do
    for {library, advice} <- cases() do
      File.rm_rf!(context.tmp_dir)
      {output, status} = FreshNode.run([], "IO.puts(1)", ebin: ebin(context.tmp_dir, library))
      assert status != 0
      assert output =~ @cannot, output
      assert output =~ advice, output
      assert output =~ "cybernetic_wasm.so", "the loader's words: #{output}"
      refute output =~ "undef"
    end
  end

  test "and whichever function is called first", context do
    ebin = ebin(context.tmp_dir, nil)

    for call <- [
          "Runtime.stats()",
          ~S|Runtime.load_module("priv/wasm/compute.wasm")|,
          ~S|Cybernetic.WASM.Sandbox.new(network: ["a.example:1"])|,
          ~S|Cybernetic.WASM.Sandbox.Manifest.load("examples/none.toml")|,
          "Runtime.compiler()"
        ] do
      code = """
      try do
        IO.puts("gave \#{inspect(#{call})}")
      rescue
        error in RuntimeError -> IO.puts("raised " <> error.message)
      end
      """

      {output, 0} = FreshNode.run([], code, ebin: ebin, start: false)
      assert output =~ "raised #{@cannot}" or output =~ "no such file", "#{call}: #{output}"
    end
  end

  test "in an escript, too", context do
    # As there, the code is in no application's folder.
    loose = Path.join(context.tmp_dir, "loose")
    File.cp_r!(Application.app_dir(:cybernetic_wasm, "ebin"), loose)
    {output, status} = FreshNode.run([], "Runtime.stats()", ebin: loose, start: false)
    assert status != 0
    assert output =~ @cannot <> "the application cybernetic_wasm has no folder here"
    assert output =~ "an escript or an archive holds no native library"
    refute output =~ "FunctionClauseError"
  end

  test "what needs no native code works without it", context do
    code = "IO.puts(inspect(Cybernetic.WASM.Sandbox.new(fuel: 1_234).limits.fuel))"

    {output, 0} = FreshNode.run([], code, ebin: ebin(context.tmp_dir, nil), start: false)
    assert output =~ "1234"
  end
end
