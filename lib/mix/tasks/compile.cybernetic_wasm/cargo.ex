defmodule Mix.Tasks.Compile.CyberneticWasm.Cargo do
  @moduledoc false

  # Finds a cargo that is new enough, runs it and decides what of its output the user sees. Works in
  # the current folder, which Mix sets to the project's root, also for a dependency.

  # The library that the VM loads, and the program that it starts to compile modules.
  @packages ["cybernetic_wasm_nif", "cybernetic_wasm_compiler"]

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
  Builds the library and the compiler.

  Answers their paths and cargo's output without colours, or a message and the output.
  """
  @spec build(Path.t(), String.t()) ::
          {:ok, %{library: Path.t(), compiler: Path.t()}, String.t()}
          | {:error, String.t(), String.t()}
  def build(cargo, profile) do
    {program, args} = watched(cargo, arguments(profile))

    port =
      Port.open({:spawn_executable, program}, [
        :binary,
        :exit_status,
        :hide,
        :stderr_to_stdout,
        line: 65_536,
        args: args,
        env: [{~c"CARGO_TERM_COLOR", if(IO.ANSI.enabled?(), do: ~c"always", else: ~c"never")}]
      ])

    follow(port, %{line: "", log: [], built: %{}, shown: :nothing})
  end

  # The standard input of a port's program ends with the VM, however that ended; cargo does not look at its own. The shell is
  # the leader of a process group, as the VM starts it, in which cargo and its compilers are, too. Its own commands only: the
  # PATH may hold nothing but cargo.
  @watch ~S"""
  exec 3<&0
  "$@" </dev/null 3<&- &
  child=$!
  (while read -r _; do :; done <&3; kill -TERM $child; kill -TERM -$$) >/dev/null 2>&1 &
  watch=$!
  exec 3<&-
  wait $child
  status=$?
  kill $watch 2>/dev/null
  exit $status
  """

  defp watched(cargo, args) do
    case :os.type() do
      {:unix, _} -> {"/bin/sh", ["-c", @watch, "cargo", cargo | args]}
      _windows -> {cargo, args}
    end
  end

  @doc "Makes cargo link the library and the compiler anew, with what the system has now."
  @spec forget(Path.t(), String.t()) :: :ok
  def forget(cargo, profile) do
    args = ["clean"] ++ Enum.flat_map(@packages, &["--package", &1]) ++ profile_option(profile)
    # Where there is nothing to remove, nothing is lost.
    {_output, _status} = System.cmd(cargo, args, stderr_to_stdout: true)
    :ok
  end

  # One line of JSON for each artifact tells where it is: only cargo knows, what with
  # CARGO_TARGET_DIR, build.target and their like in the user's configuration.
  defp arguments(profile) do
    ["build", "--message-format=json-render-diagnostics"] ++
      Enum.flat_map(@packages, &["--package", &1]) ++ profile_option(profile)
  end

  defp profile_option("release"), do: ["--release"]
  defp profile_option(_debug), do: []

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
    %{state | built: Map.merge(state.built, built(json))}
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
      map_size(state.built) < 2 -> {:error, "cargo built less than it was asked for", output}
      true -> {:ok, state.built, output}
    end
  end

  defp built(json) do
    [
      library: ~r/"name":"cybernetic_wasm",.*"filenames":\[.*?"([^"]+\.(?:so|dylib|dll))"/,
      compiler: ~r/"name":"cybernetic_wasm_compiler",.*"executable":"([^"]+)"/
    ]
    |> Enum.flat_map(fn {what, place} ->
      case Regex.run(place, json) do
        [_, path] -> [{what, String.replace(path, "\\\\", "\\")}]
        nil -> []
      end
    end)
    |> Map.new()
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
