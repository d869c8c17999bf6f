defmodule Cybernetic.WASM.ComponentsSoakTest do
  # A million wrong terms, and a hundred thousand damaged components: `mix test --only soak`.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Plenty, WitTypes}

  alias Cybernetic.WASM.{CallError, Component, Executor, Instance, LimitError, LoadError, Runtime}

  @moduletag :soak
  @moduletag timeout: 3_600_000

  @rounds 10

  # What allocators keep.
  @slack_kb 30_000

  defp resident do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    Runtime.clear_cache()
    status = File.read!("/proc/self/status")
    [number] = Regex.run(~r/^VmRSS:\s+(\d+)/m, status, capture: :all_but_first)
    String.to_integer(number)
  end

  # Rounds of work, of which the last leaves no more behind than the half of them did.
  defp flat(work) do
    sizes = for round <- 1..@rounds, do: work.(round) && resident()
    IO.puts("\nresident memory after each round, in KB: #{Enum.join(sizes, " ")}")
    assert List.last(sizes) < Enum.at(sizes, div(@rounds, 2) - 1) + @slack_kb
  end

  test "wrong terms leave nothing behind" do
    types = for _ <- 1..40, do: type(3)
    instance = Instance.new!(Runtime.load_module!({:bytes, component(types)}))
    wrong = for {type, index} <- Enum.with_index(types), _ <- 1..50, do: {index, wrong(type)}

    flat(fn _round ->
      for _ <- 1..50, {index, {wrong, _path}} <- wrong do
        {:error, %CallError{reason: :type}} =
          Instance.call(instance, "whole#{index}", [wrong | beside()])
      end
    end)

    {given, out} = value(hd(types))
    {:ok, tuple} = Instance.call(instance, "whole0", [given | beside()])
    assert elem(tuple, 0) == out
  end

  test "damaged components are errors, or run" do
    whole =
      for path <- ["priv/wasm/greeter.wasm", "test/fixtures/components/stock.wasm"],
          do: File.read!(path)

    flat(fn round ->
      for n <- 1..10_000, do: survive(damaged(Enum.at(whole, rem(n, 2)), n), round)
    end)
  end

  defp survive(bytes, _round) do
    case Runtime.load_module({:bytes, bytes}) do
      {:ok, %Component{} = component} ->
        {_, _} = Executor.call(component, "greet", ["a"], forever(fuel: 100_000))

      {:ok, _module} ->
        :ok

      {:error, error} ->
        assert error.__struct__ in [LoadError, LimitError]
    end
  end

  defp damaged(whole, number) do
    at = :rand.uniform(byte_size(whole)) - 1
    <<before::binary-size(at), byte, rest::binary>> = whole

    case rem(number, 3) do
      0 -> before
      1 -> <<before::binary, Bitwise.bxor(byte, :rand.uniform(255)), rest::binary>>
      2 -> <<before::binary, rest::binary>>
    end
  end
end
