defmodule Mix.Tasks.Compile.CyberneticWasm do
  @moduledoc """
  Builds the native library with cargo, and the program that compiles modules outside the VM, and installs them as
  `priv/native/cybernetic_wasm.so` and `priv/native/cybernetic_wasm_compiler`.

  It is the last of this project's compilers, so `mix compile` runs it, also where Cybernetic.WASM is
  a dependency. Rust is needed on the machine that compiles (https://rustup.rs), in the version that
  `Cargo.toml` names as `rust-version`, and a C linker.

    * Nothing changed, and the system is the one that it was built on (its kind of machine, its C library): nothing runs and
      nothing is printed.
    * Only our own crates changed: cargo rebuilds them; its output is shown when it fails or warns.
    * Dependencies have to be compiled, as in a first build: cargo's progress is shown on standard
      error. Compiling Wasmtime takes 4 to 8 minutes, once.

  `mix compile --force` asks cargo even when nothing seems to have changed. With
  `--warnings-as-errors` a warning of the Rust compiler is an error too. `mix clean` removes the
  two, not cargo's `target` folder: that is `cargo clean`.

  ## Environment

    * `CYBERNETIC_WASM_PROFILE` - `release` (default) or `debug`: faster to build, far slower to run
    * `CARGO_TARGET_DIR`, `CARGO_BUILD_TARGET` and cargo's other variables mean what they mean to cargo

  When this VM ends, however it does, cargo and its compilers are ended with it.
  """

  use Mix.Task.Compiler

  alias Mix.Task.Compiler.Diagnostic
  alias Mix.Tasks.Compile.CyberneticWasm.{Cargo, Host}

  @recursive true

  # On macOS the file is a .dylib by content, but the BEAM looks for .so there too.
  @extension if match?({:win32, _}, :os.type()), do: ".dll", else: ".so"
  @installed %{
    library: "priv/native/cybernetic_wasm" <> @extension,
    compiler: "priv/native/cybernetic_wasm_compiler"
  }

  # What cargo builds otherwise with.
  @environment ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"]

  @impl true
  def run(args) do
    with {:ok, profile} <- profile() do
      # Read before the build: what changes while it runs is new to the next one.
      sources = sources(profile)

      if "--force" not in args and File.read(manifest()) == {:ok, stamp(sources)} do
        {:noop, []}
      else
        forget_other_systems(profile)
        build(profile, sources, "--warnings-as-errors" in args)
      end
    else
      {:error, message} -> failed(message)
    end
  end

  @impl true
  def manifests, do: [manifest()]

  @impl true
  def clean do
    for {_what, path} <- @installed, do: File.rm(path)
    _ = File.rm(manifest())
    :ok
  end

  defp profile do
    case System.get_env("CYBERNETIC_WASM_PROFILE", "release") do
      profile when profile in ["release", "debug"] -> {:ok, profile}
      other -> {:error, "CYBERNETIC_WASM_PROFILE is #{inspect(other)}; use release or debug"}
    end
  end

  defp build(profile, sources, strict?) do
    with {:ok, cargo} <- Cargo.find(),
         {:ok, built, output} <- Cargo.build(cargo, profile),
         {:ok, warnings} <- accept(output, strict?) do
      for {what, path} <- built, do: install(path, @installed[what])
      # Links priv into the build folder, or copies it where links are not to be had.
      Mix.Project.build_structure()
      record(sources)
      {:ok, warnings}
    else
      {:error, message} -> failed(message)
      {:error, message, output} -> failed(message, diagnostics(output))
    end
  end

  # Refused warnings leave the manifest unwritten, so that the next run meets them again.
  defp accept(output, strict?) do
    case diagnostics(output) do
      [_ | _] when strict? -> {:error, "warnings are errors here: --warnings-as-errors", output}
      warnings -> {:ok, warnings}
    end
  end

  # cargo does not know that what it linked was linked with the C library of another system.
  defp forget_other_systems(profile) do
    with {:ok, stamp} <- File.read(manifest()),
         {_sources, _identities, system} <- read_stamp(stamp),
         true <- system != Host.system(),
         {:ok, cargo} <- Cargo.find(),
         do: Cargo.forget(cargo, profile)
  end

  # One of an older version has another shape.
  defp read_stamp(stamp) do
    :erlang.binary_to_term(stamp, [:safe])
  rescue
    ArgumentError -> nil
  end

  # A running VM may have the old file mapped, and writing into a mapped file crashes it: a new
  # file takes the name. It keeps its time, by which the manifest of another environment (MIX_ENV=test
  # has its own) knows the library that it built.
  defp install(built, installed) do
    new = "#{installed}.#{System.pid()}"
    File.mkdir_p!(Path.dirname(installed))

    try do
      File.cp!(built, new)
      File.touch!(new, File.stat!(built, time: :posix).mtime)
      File.rename!(new, installed)
    after
      File.rm(new)
    end
  end

  defp record(sources) do
    File.mkdir_p!(Path.dirname(manifest()))
    File.write!(manifest(), stamp(sources))
  end

  defp manifest, do: Path.join(Mix.Project.manifest_path(), "compile.cybernetic_wasm")

  defp stamp(sources) do
    identities = for {_what, path} <- @installed, do: identity(path)
    :erlang.term_to_binary({sources, identities, Host.system()})
  end

  # What the owner may do with it is a part: a program that cannot be run is none.
  defp identity(path) do
    with {:ok, %{size: size, mtime: mtime, mode: mode}} <- File.stat(path, time: :posix),
         do: {size, mtime, Bitwise.band(mode, 0o700)}
  end

  # By content: times say nothing after a checkout, and have a grain of a second.
  defp sources(profile) do
    files =
      for pattern <- ["Cargo.{toml,lock}", "rust-toolchain.toml", "native/**"],
          path <- Path.wildcard(pattern),
          not (path =~ ~r{^native/[^/]+/(tests|benches)/}),
          {:ok, content} <- [File.read(path)],
          do: {path, :erlang.md5(content)}

    {profile, for(name <- @environment, do: System.get_env(name)), files}
  end

  defp failed(message, diagnostics \\ []) do
    Mix.shell().error(message)
    {:error, if(diagnostics == [], do: [diagnostic(message)], else: diagnostics)}
  end

  # "error[E0425]: cannot find …" and below it "  --> native/…/src/lib.rs:12:5", as rustc prints them.
  defp diagnostics(output) do
    ~r/^(error|warning)(?:\[\w+\])?: (.+)\n\s*--> (.+?):(\d+):\d+$/m
    |> Regex.scan(output, capture: :all_but_first)
    |> Enum.map(fn [severity, message, file, line] ->
      %{
        diagnostic(message)
        | severity: if(severity == "error", do: :error, else: :warning),
          file: Path.expand(file),
          position: String.to_integer(line)
      }
    end)
  end

  defp diagnostic(message) do
    %Diagnostic{
      compiler_name: "cargo",
      file: Path.expand("Cargo.toml"),
      message: message,
      position: 1,
      severity: :error
    }
  end
end
