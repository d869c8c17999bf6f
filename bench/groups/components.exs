defmodule Cybernetic.WASM.Bench.Components do
  # Calls of a component, by what they pass: the guest is bench/guests/component, and the raw side drives the same.

  alias Cybernetic.WASM.{Bench.Measure, Executor, Instance, Native, Runtime}
  import Measure, only: [by: 2]

  @path "bench/guests/component.wasm"

  def rows(effort) do
    component = Runtime.load_module!(@path)

    Measure.compare(
      [{"no-op NIF", fn -> Native.runtime_ping() end}, fresh(component)] ++
        warm(component) ++ records(component) ++ large(component) ++ [host(component)],
      by(effort, full: 60, quick: 15, tiny: 0),
      by(effort, full: 15, quick: 7, tiny: 1)
    )
  end

  defp fresh(component) do
    {"fresh call",
     fn -> {:ok, 5} = Executor.call(component, "add", [2, 3], imports: imports()) end}
  end

  defp warm(component) do
    guest = instance(component)

    [
      {"warm call", fn -> {:ok, 5} = Instance.call(guest, "add", [2, 3]) end},
      {"warm call, dirty",
       fn -> {:ok, 5} = Instance.call(guest, "add", [2, 3], scheduling: :dirty) end}
    ]
  end

  # What comes back is the same map.
  defp records(component) do
    line = %{"item" => "a pot of tea", "count" => 2, "price" => 2.5, "sold" => true}
    line_of_five = Map.put(line, "code", ?x)
    tagged = Map.put(line, "tags", ["hot", "new"])
    atoms = %{item: "a pot of tea", count: 2, price: 2.5, sold: true, code: ?x}
    guest = instance(component)
    bounded = Instance.new!(component, imports: imports(), max_transfer: 262_144)

    [
      {"record of five fields",
       fn -> {:ok, ^line_of_five} = Instance.call(guest, "a-line", [line_of_five]) end},
      {"record of five fields, with atoms as keys",
       fn -> {:ok, ^line_of_five} = Instance.call(guest, "a-line", [atoms]) end},
      {"record with a list in it",
       fn -> {:ok, ^tagged} = Instance.call(guest, "a-tagged", [tagged]) end},
      {"record with a list in it, max_transfer: 256 KiB",
       fn -> {:ok, ^tagged} = Instance.call(bounded, "a-tagged", [tagged]) end}
    ]
  end

  # Only how much comes back is looked at: comparing it takes as long as copying it.
  defp large(component) do
    bytes = :binary.copy(<<7>>, 65_536)
    text = :binary.copy("a", 1_048_576)
    guest = instance(component)

    for {row, name, given} <- [
          {"64 KiB of bytes in and out", "bytes", bytes},
          {"1 MiB of text in and out", "text", text}
        ] do
      size = byte_size(given)

      {row,
       fn ->
         {:ok, given} = Instance.call(guest, name, [given])
         ^size = byte_size(given)
       end}
    end
  end

  # One call of the guest makes all the host calls of a round.
  defp host(component) do
    opts = [
      imports: imports(),
      max_host_calls: 1_000_000_000,
      fuel: 1_000_000_000_000,
      timeout: 60_000
    ]

    {"host call",
     fn times -> {:ok, ^times} = Executor.call(component, "calls", [times], opts) end}
  end

  defp instance(component), do: Instance.new!(component, imports: imports())

  defp imports, do: %{"$root" => %{"next" => fn _context, value -> value + 1 end}}
end
