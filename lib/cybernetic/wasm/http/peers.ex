defmodule Cybernetic.WASM.HTTP.Peers do
  @moduledoc false
  # The addresses that a request may be sent to. A name is looked up once for each hop, what it resolved to is judged by the
  # network rules, and one of those very addresses is connected to: a second look-up could give another one.

  alias Cybernetic.WASM.{Deadline, DeniedError, HTTPError}
  alias Cybernetic.WASM.HTTP.URL
  alias Cybernetic.WASM.Sandbox.Capabilities.Network

  # Each of them may let a connection wait.
  @most_addresses 8

  # Of IPv4, and of IPv6: whoever answers for a name says how many it has, and each is judged.
  @most_judged 32

  @doc "The addresses of a URL's host that may be reached, of which there is at least one."
  @spec addresses(URL.t(), Network.granted(), Deadline.t()) ::
          {:ok, [:inet.ip_address(), ...]} | {:error, HTTPError.t()}
  def addresses(%URL{address: nil} = url, granted, deadline) do
    with :ok <- may_look_up(url, granted),
         {:ok, addresses} <- look_up(url.host, deadline),
         do: allowed(addresses, url, granted)
  end

  def addresses(%URL{} = url, granted, _deadline) do
    with :ok <- judged(Network.check(granted, {url.address, url.port})), do: {:ok, [url.address]}
  end

  defp may_look_up(url, granted) do
    if Network.lookup?(granted, url.host),
      do: :ok,
      else: judged(Network.check(granted, {url.host, url.port}))
  end

  defp allowed(addresses, url, granted) do
    peer = {url.host, url.port}
    verdicts = for ip <- addresses, do: {ip, Network.check(granted, peer, address: ip)}

    case for {ip, :ok} <- verdicts, do: ip do
      [] -> verdicts |> List.first() |> elem(1) |> judged()
      allowed -> {:ok, Enum.take(allowed, @most_addresses)}
    end
  end

  defp judged(:ok), do: :ok

  defp judged({:error, %DeniedError{denied: why}}),
    do: {:error, HTTPError.new(:denied, detail: why)}

  # The resolver has time-outs of its own, and whoever waits for it cannot set them: so another process does.
  defp look_up(name, deadline) do
    {pid, monitor} = spawn_monitor(__MODULE__, :resolve, [to_charlist(name)])

    receive do
      {:DOWN, ^monitor, :process, _pid, {:found, []}} -> {:error, HTTPError.new(:unresolved)}
      {:DOWN, ^monitor, :process, _pid, {:found, addresses}} -> {:ok, addresses}
      {:DOWN, ^monitor, :process, _pid, _died} -> {:error, HTTPError.new(:unresolved)}
    after
      Deadline.left(deadline) ->
        Process.exit(pid, :kill)
        Process.demonitor(monitor, [:flush])
        {:error, HTTPError.new(:timeout, during: :resolve)}
    end
  end

  @doc false
  # IPv4 first: where a network has no way for IPv6, trying that may take until its time is over.
  @spec resolve(charlist) :: no_return
  def resolve(name) do
    exit(
      {:found,
       for family <- [:inet, :inet6],
           {:ok, addresses} <- [:inet.getaddrs(name, family)],
           address <- addresses |> Enum.uniq() |> Enum.take(@most_judged),
           not mapped?(address) do
         address
       end}
    )
  end

  # An IPv4 address again.
  defp mapped?({0, 0, 0, 0, 0, 0xFFFF, _, _}), do: true
  defp mapped?(_address), do: false
end
