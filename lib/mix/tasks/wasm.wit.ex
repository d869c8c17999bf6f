defmodule Mix.Tasks.Wasm.Wit do
  @shortdoc "Prints the WIT of a WebAssembly component"

  @moduledoc """
  Prints the WIT of a component: its world, and the interfaces and types that it imports and exports. The component is validated
  and compiled, and nothing in it runs.

      mix wasm.wit FILE

  FILE is in the binary or the text format; `-` is standard input. The package and the world have no names in a component: they are
  `root:component` and `root`. What the author has said of its parts is there where the component was made with it.

  ## Options

    * `--help`

  ## Exit status

    * 0 - the WIT is printed
    * 1 - the node has no room for the component's code
    * 2 - an unknown option, no such file, not a valid component, or one that WIT has no words for

  ## Examples

      $ mix wasm.wit priv/wasm/greeter.wasm
      package root:component;

      world root {
        export greet: func(name: string) -> string;
        export acme:shop/orders@1.2.0;
      }
      package acme:shop@1.2.0 {
        interface orders {
          record line {
            item: string,
            count: u32,
          }

          record receipt {
            number: u32,
            total: u32,
            gift: bool,
          }

          variant problem {
            empty,
            sold-out(string),
          }

          place: func(lines: list<line>) -> result<receipt, problem>;
        }
      }
  """

  use Mix.Task

  alias Cybernetic.WASM.{Component, Shown}
  alias Mix.Tasks.Wasm.CommandLine

  @task "wasm.wit"
  @usage "FILE"

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, []) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> print(parsed)
    end
  end

  defp print(parsed) do
    with {:ok, _options, words} <- parsed,
         {:ok, file} <- CommandLine.one_argument(words, "FILE", "mix #{@task} #{@usage}"),
         :ok <- CommandLine.start(),
         {:ok, loaded} <- CommandLine.load(file),
         {:ok, text} <- wit(loaded, file) do
      text |> String.trim_trailing() |> CommandLine.print()
    else
      {:error, error} -> CommandLine.stop(error, @task, [])
    end
  end

  defp wit(%Component{} = component, file) do
    case Component.wit(component) do
      nil -> CommandLine.usage_error("WIT has no words for what #{Shown.path(file)} exports")
      text -> {:ok, text}
    end
  end

  defp wit(_module, file) do
    CommandLine.usage_error(
      "#{Shown.path(file)} is a module, which has no WIT: mix wasm.inspect shows what it imports and exports"
    )
  end
end
