defmodule Cybernetic.WASM.Sandbox.Capabilities.Network do
  @moduledoc """
  Network peers: option `network:` of `Cybernetic.WASM.Sandbox.new/1`. Default: `false`, none.

      network: ["api.example.com:443", "*.example.org:443", "10.1.0.0/16:5432"]
      network: ["tcp://[2001:db8::]/32:443", "udp://1.1.1.1:53"]
      network: [allow: ["api.example.com:443"], dns: true]

  A rule is `host:port`, with `tcp://` (the default) or `udp://` before it:

    * the host is a name; `*.` and a name, for every name below that one; an IPv4 address; an IPv6
      address in brackets; or an address with a prefix length, for a range
    * the port is a number, or `*`

  A rule's own name may always be looked up. `dns: true` lets a guest look up other names, too
  (default `false`). Rules for addresses then decide whether it may reach the answer.

  Addresses that are not public are refused unless a rule names them. An address that is private,
  loopback, link-local (where clouds keep their metadata), multicast, of a carrier's network,
  reserved or for documentation is allowed only by a rule for an address or a range *within* the
  same special range. So `0.0.0.0/0:443` is the public internet. An IPv6 address that carries an
  IPv4 one (mapped, compatible, NAT64, 6to4, Teredo) is judged as the IPv4 address.

  A component opens sockets (`wasi:sockets`) to these peers: streams to `tcp://`, datagrams to
  `udp://`. It reaches out and is not reached: it cannot listen, nor choose an address of its own. A
  socket counts as an open file: `max_open` of `Cybernetic.WASM.Sandbox.Capabilities.Filesystem`.
  What it is refused answers with `access-denied` and is in the denials of the run.

  WASI preview 1 opens no sockets. Beside components, this grant is for host functions that reach
  out in a guest's name: they ask `check/3` or `allowed?/3`.

  ## Names and their addresses

  The owner of a name decides which address it resolves to. It may be 127.0.0.1, or another one each
  time (DNS rebinding). So a rule for a name covers an address only if the address is public, or if
  a rule names it as well. Ask for the name, look it up *once*, ask again with the address, and
  connect to that address. Do the same again for each redirect:

      with :ok <- Network.check(sandbox, {host, port}),
           {:ok, ip} <- :inet.getaddr(to_charlist(host), :inet),
           :ok <- Network.check(sandbox, {host, port}, address: ip) do
        :gen_tcp.connect(ip, port, [:binary, active: false])
      end

  For a name that no rule has, and that only `dns: true` allows to be looked up, ask `lookup?/2` first.

  A component looks a name up itself (`wasi:sockets/ip-name-lookup`): the library remembers which
  addresses it was told, and asks the same of each.

  Narrowing keeps the rules of both, and a peer has to pass each list.

  ## In a host function

  `check/3`, `allowed?/3` and `lookup?/2` also take the context of a host function. They then ask the sandbox that the call
  really has, whatever has narrowed it:

      "fetch" => fn ctx, ptr, len ->
        {:ok, url} = Host.read(ctx, ptr, len)
        uri = URI.parse(url)

        with :ok <- Network.check(ctx, uri),
             {:ok, address} <- MyApp.resolve(uri.host),
             :ok <- Network.check(ctx, uri, address: address),
             do: MyApp.get(uri, address)
      end

  Connect to the address that was checked: the name may resolve to another one the next time. Check each redirect. For HTTP
  `Cybernetic.WASM.HTTP.Client` does all of it: `HTTP.Client.request(%{url: url}, network: ctx)`.

  ## Examples

      iex> alias Cybernetic.WASM.Sandbox
      iex> alias Cybernetic.WASM.Sandbox.Capabilities.Network
      iex> sandbox = Sandbox.new(network: ["*.example.com:443"])
      iex> Network.allowed?(sandbox, "api.example.com:443")
      true
      iex> Network.allowed?(sandbox, {"api.example.com", 443}, address: {93, 184, 216, 34})
      true
      iex> Network.allowed?(sandbox, {"api.example.com", 443}, address: {127, 0, 0, 1})
      false
      iex> {:error, error} = Network.check(sandbox, "[::ffff:169.254.169.254]:80")
      iex> error.denied
      "169.254.169.254 is link-local (169.254.0.0/16), and no rule names it or a range within"
  """

  use Cybernetic.WASM.Sandbox.Capability
  import Cybernetic.WASM.Sandbox.Manifest.Tree

  alias Cybernetic.WASM.{DeniedError, Host, Native, Sandbox}
  alias Cybernetic.WASM.Host.Context
  alias Cybernetic.WASM.Sandbox.Capabilities.Network.Peer
  alias Cybernetic.WASM.Sandbox.Presets

  # Without a list nothing is granted. With several, each has to allow a peer.
  defstruct lists: [], dns: false

  @typedoc """
  The peers that may be reached: lists of rules, each of which a peer has to pass, and whether
  names that no rule has may be looked up.
  """
  @type t :: %__MODULE__{lists: [[String.t()]], dns: boolean}

  @typedoc "Who is asked: a sandbox or a preset, the grant alone, or a host function's context."
  @type granted :: Sandbox.given() | t | Host.ctx()

  @typedoc "A peer: `\"host:port\"`, host and port, or a `URI`."
  @type target :: String.t() | {String.t() | :inet.ip_address(), :inet.port_number()} | URI.t()

  # All of them are read at each question, on a normal scheduler.
  @most_rules 1_000

  @impl true
  def default, do: %__MODULE__{}

  @impl true
  def grant(false), do: {:ok, %__MODULE__{}}

  def grant(list) when is_list(list) do
    if list != [] and Keyword.keyword?(list), do: from_keyword(list), else: rules(list, false)
  end

  def grant(other), do: wrong(other)

  defp from_keyword(opts) do
    case Enum.find(Keyword.keys(opts), &(&1 not in [:allow, :dns])) do
      nil -> rules(Keyword.get(opts, :allow, []), Keyword.get(opts, :dns, false))
      key -> refused("unknown key #{inspect(key)} of option :network; known are: :allow, :dns")
    end
  end

  # Without a rule there is nobody to talk to, and looking names up would only leak data.
  defp rules([], dns) when is_boolean(dns), do: {:ok, %__MODULE__{}}

  defp rules(rules, dns) when is_list(rules) and length(rules) >= 0 and is_boolean(dns) do
    cond do
      not Enum.all?(rules, &(is_binary(&1) and String.valid?(&1))) ->
        wrong(rules)

      length(rules) > @most_rules ->
        refused("option :network takes at most #{@most_rules} rules, got #{length(rules)}")

      true ->
        understood(rules, dns)
    end
  end

  defp rules(rules, dns), do: wrong(allow: rules, dns: dns)

  defp understood(rules, dns) do
    case Native.network_rules(rules) do
      :ok ->
        {:ok, %__MODULE__{lists: [rules |> Enum.uniq() |> Enum.sort()], dns: dns}}

      {:invalid, rule, reason} ->
        refused("option :network: the rule #{inspect(rule)} cannot be taken: #{reason}")
    end
  end

  defp wrong(given) do
    refused(
      ~s|option :network must be false, a list of rules such as "api.example.com:443", or | <>
        "[allow: rules, dns: true or false]",
      given
    )
  end

  @impl true
  def keys, do: [:network]

  @impl true
  def manifest([{:network, {:boolean, _line, false}, _at}]), do: false
  def manifest([{:network, {:array, _line, _items} = node, at}]), do: stated_rules(node, at)

  def manifest([{:network, {:table, _line, _entries} = node, at}]) do
    Enum.map(table(node, at, [{"allow", :allow}, {"dns", :dns}]), fn
      {:allow, node, at} -> {:allow, stated_rules(node, at)}
      {:dns, node, at} -> {:dns, boolean(node, at)}
    end)
  end

  def manifest([{:network, node, at}]),
    do: refuse(node, at, ~S|false or a list of rules such as "api.example.com:443"|)

  defp stated_rules(node, at) do
    expected = ~S|a rule such as "api.example.com:443", "*.example.com:443" or "10.1.0.0/16:5432"|

    for {node, at} <- items(node, at),
        do: node |> text(at, expected) |> option(&grant([&1]), {node, at}, expected)
  end

  @impl true
  def suggestion do
    """
    # It asks for sockets, which WASI preview 1 cannot open.
    network = false
    """
  end

  @impl true
  def narrow(%__MODULE__{lists: []} = none, _other), do: none
  def narrow(_network, %__MODULE__{lists: []} = none), do: none

  def narrow(%__MODULE__{} = network, %__MODULE__{} = other) do
    lists = Enum.sort(Enum.uniq(network.lists ++ other.lists))
    %__MODULE__{lists: lists, dns: network.dns and other.dns}
  end

  @impl true
  def granted?(network), do: network.lists != []

  @impl true
  def explain(network) do
    lists = Enum.map_join(network.lists, "; and of these: ", &Enum.join(&1, ", "))
    lists <> if(network.dns, do: "; lookups of any name", else: "")
  end

  # Modules have no use for it: no function of WASI preview 1 opens a socket.
  @impl true
  def served?, do: false

  @impl true
  def native(network, _data),
    do: {:ok, %{network: if(granted?(network), do: {network.lists, network.dns})}}

  @impl true
  def functions, do: ~w(sock_accept sock_recv sock_send sock_shutdown)

  @impl true
  def interfaces do
    sockets =
      for name <- ~w(ip-name-lookup tcp tcp-create-socket udp udp-create-socket),
          do: {"wasi:sockets/#{name}", :errno}

    [{"wasi:http/outgoing-handler", :errno} | sockets]
  end

  # WASI preview 1 has functions of sockets, but none that opens one.
  @impl true
  def hint,
    do:
      "nothing grants it to a module: WASI preview 1 has no way to open a socket; to a component it is " <>
        ~s|network: ["api.example.com:443"]|

  @doc """
  Whether a guest with this sandbox may reach a peer. The answer for a target that makes no sense
  is no, and nothing is raised: targets come from guests.

  ## Options

    * `:protocol` - `:tcp` (default) or `:udp`
    * `:address` - the address that the target's name resolved to, a tuple or a text: see
      "Names and their addresses"
  """
  @spec allowed?(granted, target, keyword) :: boolean
  def allowed?(granted, target, opts \\ []), do: check(granted, target, opts) == :ok

  @doc "As `allowed?/3`, with the reason of a refusal."
  @spec check(granted, target, keyword) :: :ok | {:error, DeniedError.t()}
  def check(granted, target, opts \\ []) do
    {protocol, address} = options!(opts)

    case Peer.new(target, address) do
      {:ok, peer} -> granted |> of() |> judge(protocol, peer)
      {:refused, reason} -> denied(reason)
    end
  end

  @doc "Whether a guest with this sandbox may look up a name."
  @spec lookup?(granted, String.t()) :: boolean
  def lookup?(granted, name) when is_binary(name),
    do: Peer.name?(name) and granted |> of() |> judge(:tcp, {name, nil, nil}) == :ok

  defp options!(opts) do
    opts = Keyword.validate!(opts, protocol: :tcp, address: nil)

    unless opts[:protocol] in [:tcp, :udp] do
      raise ArgumentError,
            "option :protocol must be :tcp or :udp, got: #{inspect(opts[:protocol])}"
    end

    {opts[:protocol], opts[:address]}
  end

  # The grant itself, or of a sandbox, of a host function's context, or of a preset.
  defp of(%__MODULE__{} = network), do: network
  defp of(%{network: %__MODULE__{} = network}), do: network
  defp of(%Context{} = context), do: context |> Context.plan() |> Map.fetch!(:sandbox) |> of()
  defp of(preset), do: grant!(__MODULE__, Keyword.get(Presets.options!(preset), :network, false))

  defp judge(%{lists: lists, dns: dns}, protocol, {name, ip, port}) do
    with {:refused, reason} <- Native.network_check(lists, dns, protocol, name, ip, port),
         do: denied(reason)
  end

  defp denied(reason) do
    grant = ~s|add a rule such as network: ["api.example.com:443"]|
    {:error, %DeniedError{capability: :network, denied: reason, grant: grant}}
  end
end
