defmodule Cybernetic.WASM.Terminal do
  @moduledoc false
  # Runs Mix tasks as a user at a terminal does, and gives what the user sees: exit status, standard output and error.

  import ExUnit.CaptureIO

  @doc "Runs the task in this VM, with `input` as standard input."
  def run(task, argv, input \\ "") do
    {{status, output}, errors} =
      with_io(:stderr, fn ->
        with_io([input: input, capture_prompt: false], fn -> status(Mix.Task.get!(task), argv) end)
      end)

    {status, output, errors}
  end

  defp status(task, argv) do
    task.run(argv)
    0
  catch
    :exit, {:shutdown, status} -> status
  end

  @doc "Runs a line of shell in a process of its own; its standard error goes by way of `file`."
  def shell(line, file) do
    {output, status} =
      System.cmd("sh", ["-c", "(#{line}) 2>\"$0\"", file], env: [{"MIX_ENV", "test"}])

    {status, output, File.read!(file)}
  end
end
