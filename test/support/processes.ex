defmodule Cybernetic.WASM.Processes do
  @moduledoc false
  # The compiling processes of this VM, as the operating system knows them.

  @doc "The numbers of those that are `\"keep\"` or `\"work\"`."
  def compiling(role) do
    own = [String.to_integer(System.pid())]
    keepers = children(own, "keep")
    if role == "keep", do: keepers, else: children(keepers, role)
  end

  @doc "Ends one, as the operating system does where memory is short."
  def kill(number), do: System.cmd("kill", ["-9", to_string(number)], stderr_to_stdout: true)

  defp children(parents, role) do
    for entry <- File.ls!("/proc"),
        entry =~ ~r/^\d+$/,
        {:ok, arguments} <- [File.read("/proc/#{entry}/cmdline")],
        match?([_, ^role | _], String.split(arguments, <<0>>)),
        {:ok, stat} <- [File.read("/proc/#{entry}/stat")],
        parent(stat) in parents,
        do: String.to_integer(entry)
  end

  # After the name, which is in parentheses: the state, and the parent.
  defp parent(stat) do
    [_state, parent | _] = stat |> String.split(") ") |> List.last() |> String.split(" ")
    String.to_integer(parent)
  end
end
