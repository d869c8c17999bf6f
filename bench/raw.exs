defmodule Cybernetic.WASM.Bench.Raw do
  # The raw side: bench/raw.rs, built in the release profile with the library's own build of Wasmtime.

  @doc "Builds it and gives its path."
  def build! do
    args =
      ~w(bench --workspace --bench raw --no-run --quiet --message-format=json-render-diagnostics)

    {output, 0} = System.cmd("cargo", args)
    [_, path] = Regex.run(~r/"name":"raw".*"executable":"([^"]+)"/, output)
    path
  end

  @doc "The rows of a group, their names marked as raw."
  def rows(path, group, effort) do
    {output, 0} = System.cmd(path, [group | if(effort == :full, do: [], else: ["--#{effort}"])])
    for line <- String.split(output, "\n", trim: true), do: row(group, line)
  end

  # A line is a flat object of our own making, and there is no JSON decoder in the oldest OTP that we support.
  defp row(group, line) do
    [name] = Regex.run(~r/"name":"([^"]+)"/, line, capture: :all_but_first)

    figures =
      for key <- [:median_ns, :min_ns, :p50_ns, :p90_ns, :p99_ns, :max_ns],
          [number] <- [Regex.run(~r/"#{key}":([\d.eE+-]+)/, line, capture: :all_but_first)],
          do: {key, number |> Float.parse() |> elem(0)}

    # The steps are the library's own.
    name = if group == "steps", do: name, else: "raw: " <> name
    {group, name, figures}
  end
end
