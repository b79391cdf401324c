package scsi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Store keeps the persistent reservations of one logical unit over a restart
// (APTPL). Package aptpl has one in a file.
type Store interface {
	// Load returns what was saved last, or nil if nothing ever was. An error
	// means that it is not known what was saved: every initiator is fenced
	// then, see Port.ClearReservations.
	Load() ([]byte, error)
	// Save replaces what is stored, atomically: after a crash Load returns the
	// old or the new, and after a nil error the new. It borrows data. It is
	// called by one goroutine at a time.
	Save(data []byte) error
}

// savedVersion is the version of the saved form.
const savedVersion = 1

// saved is the form of reservations in a Store. PRGENERATION is not in it: SPC-5
// 6.16.2 sets it to zero at power on.
type saved struct {
	Version     int               `json:"version"`
	Lost        bool              `json:"lost,omitempty"`
	Type        ReservationType   `json:"type,omitempty"`
	Holder      *savedNexus       `json:"holder,omitempty"`
	Registrants []savedRegistrant `json:"registrants,omitempty"`
}

type savedNexus struct {
	Initiator string `json:"initiator"`
	ISID      string `json:"isid"` // 12 hexadecimal digits
	Port      uint16 `json:"port"` // relative target port identifier
}

type savedRegistrant struct {
	savedNexus
	Key string `json:"key"` // hexadecimal, without zeros in front
}

func (id nexusID) save() savedNexus {
	return savedNexus{id.name, hex.EncodeToString(id.isid[:]), id.port}
}

func (s savedNexus) restore() (id nexusID, err error) {
	isid, err := hex.DecodeString(s.ISID)
	switch {
	case err != nil || len(isid) != len(id.isid):
		return id, fmt.Errorf("ISID %q is not of 12 hexadecimal digits", s.ISID)
	case len(s.Initiator) > maxNameLen:
		return id, errors.New("initiator name longer than 223 bytes")
	}
	return nexusID{s.Initiator, [6]byte(isid), s.Port}, nil
}

// encode returns the saved form. Without APTPL that is the empty state, but for
// a fence that was never lifted.
func (s *reservations) encode() ([]byte, error) {
	v := saved{Version: savedVersion, Lost: s.lost}
	if s.aptpl {
		v.Type = s.typ
		if s.typ != noReservation && !s.typ.allRegistrants() {
			h := s.holder.save()
			v.Holder = &h
		}
		for _, r := range s.regs {
			v.Registrants = append(v.Registrants, savedRegistrant{r.id.save(), strconv.FormatUint(r.key, 16)})
		}
	}
	return json.Marshal(&v)
}

// decodeReservations is the inverse of encode. It accepts nothing that encode
// would not have written.
func decodeReservations(data []byte) (*reservations, error) {
	var v saved
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if v.Version != savedVersion {
		return nil, fmt.Errorf("version %d, want %d", v.Version, savedVersion)
	}
	s := &reservations{aptpl: v.Lost || len(v.Registrants) > 0, lost: v.Lost, typ: v.Type}
	for _, r := range v.Registrants {
		id, err := r.restore()
		if err != nil {
			return nil, err
		}
		key, err := strconv.ParseUint(r.Key, 16, 64)
		if err != nil || key == 0 || s.find(id) >= 0 || !s.register(id, key) {
			return nil, fmt.Errorf("registration of %q with key %q", r.Initiator, r.Key)
		}
	}
	if v.Holder != nil {
		var err error
		if s.holder, err = v.Holder.restore(); err != nil {
			return nil, err
		}
	}
	if err := s.check(v.Holder != nil); err != nil {
		return nil, err
	}
	if again, err := s.encode(); err != nil || !bytes.Equal(again, data) {
		return nil, errors.New("not in the form it was written in")
	}
	return s, nil
}

// check wants a holder where there has to be one, and nowhere else.
func (s *reservations) check(holder bool) error {
	switch {
	case s.typ == noReservation && holder:
		return errors.New("a holder without a reservation")
	case s.typ == noReservation:
		return nil
	case !s.typ.valid():
		return fmt.Errorf("reservation of unknown type %d", uint8(s.typ))
	case s.typ.allRegistrants() && (holder || len(s.regs) == 0):
		return errors.New("reservation of all registrants with a holder, or without registrants")
	case !s.typ.allRegistrants() && (!holder || s.find(s.holder) < 0):
		return errors.New("reservation without a registered holder")
	default:
		return nil
	}
}

func (p *Port) hasStore() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.store != nil
}

// restoreReservations takes the store of a Unit that is being published, and at
// the first time the reservations in it. If they cannot be read, every
// initiator is fenced (I4): the error is for the operator.
func (p *Port) restoreReservations(store Store) error {
	p.prMu.Lock()
	defer p.prMu.Unlock()
	p.mu.Lock()
	p.store = store
	if s := p.pr.Load(); store == nil && s.aptpl && !s.lost {
		// The owner took the store away: nothing is kept any more.
		s = s.clone()
		s.aptpl = false
		p.pr.Store(s)
	}
	p.mu.Unlock()
	if store == nil || p.restored {
		return nil
	}
	p.restored = true
	s, err := loadReservations(store)
	if err != nil {
		err = fmt.Errorf("scsi: the stored reservations cannot be read, all initiators are fenced "+
			"until REPLACE LOST RESERVATION, CLEAR or an operator: %w", err)
		s = &reservations{aptpl: true, lost: true}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pr.Store(s)
	p.refreshGates()
	return err
}

func loadReservations(store Store) (*reservations, error) {
	data, err := store.Load()
	if err != nil {
		return nil, err
	}
	if data == nil {
		return noReservations, nil
	}
	return decodeReservations(data)
}

// saveReservations makes next durable before it takes effect. After a failure
// it is not known which of the two is stored, so the old is stored again, as
// far as that goes. The caller holds prMu.
func (p *Port) saveReservations(old, next *reservations) error {
	p.mu.Lock()
	store := p.store
	p.mu.Unlock()
	if store == nil || !old.aptpl && !next.aptpl || old.equal(next) {
		return nil
	}
	data, err := next.encode()
	if err != nil {
		return err
	}
	if err = store.Save(data); err == nil {
		return nil
	}
	if data, again := old.encode(); again == nil {
		again = store.Save(data)
		err = errors.Join(err, again)
	}
	return fmt.Errorf("scsi: save reservations: %w", err)
}

// equal reports whether both states have the same saved form.
func (s *reservations) equal(o *reservations) bool {
	return s.aptpl == o.aptpl && s.lost == o.lost && s.typ == o.typ && s.holder == o.holder &&
		slices.Equal(s.regs, o.regs)
}

// ClearReservations removes all reservations and registrations of the logical
// unit, as an operator does when nobody else can: after the stored state was
// damaged, or when the holder is gone for good. Registered nexuses get
// RESERVATIONS PREEMPTED. If the empty state cannot be stored, nothing changes.
func (p *Port) ClearReservations() error {
	p.prMu.Lock()
	defer p.prMu.Unlock()
	t := &prChange{prOut: &prOut{action: proClear}, old: p.pr.Load(), self: nexusID{}}
	t.next = t.old.clone()
	t.next.generation++
	t.clear()
	if err := p.saveReservations(t.old, t.next); err != nil {
		return err
	}
	p.setReservations(t)
	p.unreserve(nil)
	return nil
}
