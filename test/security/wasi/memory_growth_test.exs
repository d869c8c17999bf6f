defmodule Cybernetic.WASM.Security.WASI.MemoryGrowthTest do
  # A program may grow its memory a page at a time for as long as it likes: up to the limit, and not one page more.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Plenty, Programs}

  alias Cybernetic.WASM.LimitError

  @page 65_536

  test "growing step by step ends at the limit, and the guest goes on" do
    run = run!("tool", ["grow", "100000"], sandbox: sandbox(max_memory: 200 * @page))
    assert ["grown", pages, "refused"] = String.split(run.stdout)
    # Less what the program starts with.
    assert String.to_integer(pages) in 150..199
    assert in_last_page?(run.usage.peak_memory, 200)
    assert run.exit_code == 0
  end

  test "there is a limit where none is named" do
    run = run!("tool", ["grow", "100000"])
    assert run.stdout =~ "refused"
    assert run.usage.peak_memory <= 100_000_000
  end

  test "a program that starts with more than it may have does not start" do
    assert {:error, %LimitError{limit: :memory, allowed: @page}} =
             run("tool", ["args"], max_memory: @page)
  end

  test "an allocation that is refused is the guest's to deal with" do
    run = run!("tool", ["polls", "10000000"], sandbox: sandbox(max_memory: 50 * @page))
    assert {run.exit_code, run.stdout} == {1, "polls nomem\n"}
  end

  test "guests that all grow at once are each held to their own limit" do
    tasks =
      for n <- 1..20,
          do:
            Task.async(fn ->
              run!("tool", ["grow", "100000"], max_memory: (n + 10) * @page, wait: never())
            end)

    for {run, n} <- tasks |> await() |> Enum.with_index(1) do
      assert in_last_page?(run.usage.peak_memory, n + 10)
    end
  end

  # The program's table counts, too, and is less than a page.
  defp in_last_page?(bytes, pages), do: bytes > (pages - 1) * @page and bytes <= pages * @page
end
