defmodule Cybernetic.WASM.Security.WASI.WildCallsTest do
  # Numbers that no C library passes: pointers out of the memory, counts beyond sense, sockets that nobody granted.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.TrapError

  @calls ~w(args environ clock clock-unknown random random-huge vectors vectors-many vectors-wrap buffer buffer-huge
            read-buffer written polls polls-many)

  for call <- @calls do
    test "a bad pointer or number in #{call} is an errno or a trap, and nothing else" do
      nothing = sandbox(clocks: :none, random: :none, stdio: [stdout: :captured])

      for opts <- [[sandbox: sandbox(), stdin: "input"], [sandbox: nothing]] do
        # What hung would meet the deadline, which is no trap.
        case run("wild", ["pointers", unquote(call)], opts) do
          {:ok, run} -> assert run.stdout =~ ~r/\A#{unquote(call)} [a-z]+\n\z/
          {:error, error} -> assert %TrapError{code: :wasi} = error
        end
      end
    end
  end

  test "there are no sockets, whatever descriptor is taken for one" do
    run = run!("wild", ["sockets"])
    lines = String.split(run.stdout, "\n", trim: true)
    assert length(lines) == 32
    assert Enum.all?(lines, &(&1 =~ ~r/ (notsock|badf)\z/))
    assert Enum.any?(lines, &(&1 =~ ~r/ notsock\z/)) and Enum.any?(lines, &(&1 =~ ~r/ badf\z/))
    # It is no grant that they would need.
    assert run.denials == []
  end

  test "a guest has the descriptors that it was given, and no others" do
    dir = directory()
    assert run!("wild", ["descriptors"]).stdout |> answers() |> Map.keys() == ~w(0 1 2)

    run = run!("wild", ["descriptors"], sandbox: sandbox_of(dir, :ro))
    assert %{"3" => "directory"} = answers = answers(run)
    assert Map.keys(answers) == ~w(0 1 2 3)
  end
end
