defmodule Cybernetic.WASM.Resource do
  @moduledoc """
  A resource of a component's: something that lives in an instance and that a function of the component has given away.

  It is opaque. It goes back to functions of the same instance that take a resource of its type: lent to one that takes a
  `borrow`, its methods above all, and given to one that takes it whole, after which it is gone here.

      {:ok, cart} = Instance.call(shop, "acme:shop/carts#[constructor]cart", ["Ada"])
      {:ok, nil} = Instance.call(shop, "acme:shop/carts#[method]cart.add", [cart, "tea", 2])
      {:ok, receipt} = Instance.call(shop, "acme:shop/carts#check-out", [cart])

  Any process may use it, as it may use the instance. One that was dropped or given away, that is of another instance, or of
  one that was reset since, is a mistake in the arguments: a `Cybernetic.WASM.CallError` before anything runs. A fresh instance is
  gone when its call ends, and the resources that it gave with it: what uses resources is called on a
  `Cybernetic.WASM.Instance`.

  ## Dropping

  A resource that nobody has any more is collected, or is let go of at once with `drop/1`. The component drops it when its
  instance is next called, before the call begins and in its time and fuel; those that were let go of first come first. A trap in
  a destructor of the component is that call's. Until then each counts towards `max_resources` (`Cybernetic.WASM.Limits`).

  ## Resources of the host

  A component that imports a type of resources is given any terms for them: what a host function returns where its type says
  `conn` is what another gets where that says `borrow<conn>`, or `conn`. The component knows each by a number.

      imports: %{
        "acme:host/db" => %{
          "[constructor]conn" => fn _ctx, url -> MyApp.DB.open(url) end,
          "[method]conn.query" => fn _ctx, conn, query -> MyApp.DB.query(conn, query) end,
          "conn" => fn conn -> MyApp.DB.close(conn) end
        }
      }

  What is given under the name of the type itself is a function of one argument, the destructor, which may be left out. It runs
  exactly once for each resource that the component owned: when the component drops it, and for all that are left when the
  instance is gone, however that came about: closed, collected, reset, ended by a trap, a limit or the end of the calling process. A
  resource that the component gives back, as the argument of a host function or the result of a function of its own, is the host's
  again, and does not come to its end. So is one that a caller lends for a call. Where the calling process ends before the host
  function begins, it is the component's still, and comes to its end.

  A destructor runs in a process of the library's, since the guest and its caller may both be gone. The guest does not wait for it. Those of one
  instance run one after the other; one that fails is logged by its kind. They are those that the instance was made with, also
  for calls that bring `imports:`. What the application has not ended when it stops is not ended.

  A resource must not hold the instance itself, which would keep both for ever. What a term takes is not counted as the guest's
  memory: `max_resources` bounds how many there are, and the host function that gives them how large each is.

  ## Example

      iex> wat = ~S|(component
      ...>   (type $box (resource (rep i32)))
      ...>   (core func $new (canon resource.new $box))
      ...>   (core module $m
      ...>     (import "box" "new" (func $new (param i32) (result i32)))
      ...>     (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
      ...>     (func (export "get") (param i32) (result i32) (local.get 0)))
      ...>   (core instance $i (instantiate $m (with "box" (instance (export "new" (func $new))))))
      ...>   (export $exported "box" (type $box))
      ...>   (func (export "[constructor]box") (param "n" u32) (result (own $exported))
      ...>     (canon lift (core func $i "make")))
      ...>   (func (export "[method]box.get") (param "self" (borrow $exported)) (result u32)
      ...>     (canon lift (core func $i "get"))))|
      iex> {:ok, component} = Cybernetic.WASM.Runtime.load_module({:bytes, wat})
      iex> {:ok, instance} = Cybernetic.WASM.Instance.new(component)
      iex> {:ok, box} = Cybernetic.WASM.Instance.call(instance, "[constructor]box", [7])
      iex> {box.type, Cybernetic.WASM.Instance.call(instance, "[method]box.get", [box])}
      {"box", {:ok, 7}}
      iex> Cybernetic.WASM.Resource.drop(box)
      :ok
      iex> Cybernetic.WASM.Resource.kept?(box)
      false
      iex> {:error, error} = Cybernetic.WASM.Instance.call(instance, "[method]box.get", [box])
      iex> Exception.message(error)
      ~s|argument 1 ("self"): expected borrow<box>, got a resource that has been dropped or given away|
  """

  alias Cybernetic.WASM.Native

  @enforce_keys [:ref, :type]
  defstruct [:ref, :type]

  @typedoc "A resource: `type` is the interface and the name of its type, as the component exports it."
  @type t :: %__MODULE__{type: String.t()}

  @doc """
  Lets go of a resource: its instance drops it when that is next called. What is gone already is no mistake.
  """
  @spec drop(t) :: :ok
  def drop(%__MODULE__{ref: ref}), do: Native.resource_drop(ref)

  @doc "Whether it has neither been dropped nor given away. Whether its instance is still there it does not say."
  @spec kept?(t) :: boolean
  def kept?(%__MODULE__{ref: ref}), do: Native.resource_is_kept(ref)

  defimpl Inspect do
    def inspect(%{type: type}, _opts),
      do: "#Cybernetic.WASM.Resource<#{Cybernetic.WASM.Shown.cut(type)}>"
  end
end
