defmodule Mix.Tasks.Compile.CyberneticWasm.Cargo do
  @moduledoc false

  # Finds a cargo that is new enough, runs it and decides what of its output the user sees. Works in
  # the current folder, which Mix sets to the project's root, also for a dependency.

  @package "cybernetic_wasm_nif"

  @doc "The path of a cargo that is new enough, or what to do about it."
  @spec find() :: {:ok, Path.t()} | {:error, String.t()}
  def find do
    required = required()

    with {:ok, cargo} <- executable(required),
         {:ok, found} <- version(cargo) do
      if Version.compare(found, full(required)) == :lt,
        do: {:error, "cargo #{found} is too old. #{advice(required)}"},
        else: {:ok, cargo}
    end
  end

  @doc """
  Builds the library.

  Answers its path and cargo's output without colours, or a message and the output.
  """
  @spec build(Path.t(), String.t()) ::
          {:ok, Path.t(), String.t()} | {:error, String.t(), String.t()}
  def build(cargo, profile) do
    port =
      Port.open({:spawn_executable, cargo}, [
        :binary,
        :exit_status,
        :hide,
        :stderr_to_stdout,
        line: 65_536,
        args: arguments(profile),
        env: [{~c"CARGO_TERM_COLOR", if(IO.ANSI.enabled?(), do: ~c"always", else: ~c"never")}]
      ])

    follow(port, %{line: "", log: [], library: nil, shown: :nothing})
  end

  # One line of JSON for each artifact tells where the library is: only cargo knows, what with
  # CARGO_TARGET_DIR, build.target and their like in the user's configuration.
  defp arguments(profile) do
    ["build", "--package", @package, "--message-format=json-render-diagnostics"] ++
      if(profile == "release", do: ["--release"], else: [])
  end

  defp follow(port, state) do
    receive do
      {^port, {:data, {:noeol, part}}} ->
        follow(port, %{state | line: state.line <> part})

      {^port, {:data, {:eol, part}}} ->
        follow(port, line(state.line <> part, %{state | line: ""}))

      {^port, {:exit_status, status}} ->
        finish(status, state)
    end
  end

  defp line(~s({"reason":) <> _ = json, state) do
    %{state | library: library(json) || state.library}
  end

  defp line(text, state) do
    state = show(kind(plain(text)), %{state | log: [state.log, text, ?\n]})
    if state.shown == :all, do: IO.puts(:stderr, text)
    state
  end

  defp kind(text) do
    cond do
      text =~ ~r/^ *Compiling cybernetic_wasm/ -> :ours
      text =~ ~r/^ *(Compiling|Downloading|Updating) / -> :dependencies
      # Another cargo is at work on the same folder: without a word it would look like a hang.
      text =~ ~r/^ *Blocking / -> :blocked
      true -> :other
    end
  end

  defp show(:dependencies, %{shown: shown} = state) when shown != :all do
    Mix.shell().info("Compiling the native library with cargo: 4 to 8 minutes the first time")
    %{state | shown: :all}
  end

  defp show(:ours, %{shown: :nothing} = state) do
    Mix.shell().info("Compiling the native library with cargo")
    %{state | shown: :heading}
  end

  defp show(:blocked, %{shown: shown} = state) when shown != :all do
    Mix.shell().info("Waiting for another cargo that works in the same target folder")
    state
  end

  defp show(_kind, state), do: state

  defp finish(status, state) do
    log = IO.iodata_to_binary(state.log)
    output = plain(log)

    if state.shown != :all and (status != 0 or output =~ ~r/^warning/m),
      do: IO.write(:stderr, log)

    cond do
      status != 0 -> {:error, "cargo build failed with exit status #{status}", output}
      state.library == nil -> {:error, "cargo built no library of #{@package}", output}
      true -> {:ok, state.library, output}
    end
  end

  defp library(json) do
    with [_, names] <- Regex.run(~r/"name":"cybernetic_wasm",.*"filenames":\[(.*?)\]/, json),
         [name] <- Regex.run(~r/[^"]+\.(so|dylib|dll)(?=")/, names, capture: :first) do
      String.replace(name, "\\\\", "\\")
    end
  end

  defp plain(text), do: String.replace(text, ~r/\e\[[\d;]*m/, "")

  defp executable(required) do
    case System.find_executable("cargo") do
      nil -> {:error, "cargo is not in the PATH. #{advice(required)}"}
      cargo -> {:ok, cargo}
    end
  end

  defp version(cargo) do
    {output, _status} = System.cmd(cargo, ["--version"], stderr_to_stdout: true)

    # The rest ("-nightly", a commit) has no say: cargo itself leaves it out of rust-version's test.
    case Regex.run(~r/^cargo (\d+\.\d+\.\d+)/m, output) do
      [_, version] -> {:ok, version}
      nil -> {:error, "#{cargo} does not tell its version, it says:\n#{output}"}
    end
  end

  defp required do
    [_, version] = Regex.run(~r/^rust-version = "([\d.]+)"/m, File.read!("Cargo.toml"))
    version
  end

  defp full(version) do
    if version =~ ~r/^\d+\.\d+$/, do: version <> ".0", else: version
  end

  defp advice(required) do
    "Cybernetic.WASM compiles its native library with Rust #{required} or newer: " <>
      "install it from https://rustup.rs (or run `rustup update`), then run `mix compile` again."
  end
end
