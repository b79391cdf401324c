package scsi

import "fmt"

// ASC is an additional sense code and its qualifier: ASC<<8 | ASCQ, SPC-5
// annex F.
type ASC uint16

// The additional sense codes that this package reports.
const (
	NoAdditionalSense         ASC = 0x0000 // NO ADDITIONAL SENSE INFORMATION
	ManualInterventionNeeded  ASC = 0x0403 // LOGICAL UNIT NOT READY, MANUAL INTERVENTION REQUIRED
	WriteErr                  ASC = 0x0C00 // WRITE ERROR
	UnrecoveredReadError      ASC = 0x1100 // UNRECOVERED READ ERROR
	ParameterListLengthError  ASC = 0x1A00 // PARAMETER LIST LENGTH ERROR
	MiscompareDuringVerify    ASC = 0x1D00 // MISCOMPARE DURING VERIFY OPERATION
	InvalidOperationCode      ASC = 0x2000 // INVALID COMMAND OPERATION CODE
	LBAOutOfRange             ASC = 0x2100 // LOGICAL BLOCK ADDRESS OUT OF RANGE
	InvalidFieldInCDB         ASC = 0x2400 // INVALID FIELD IN CDB
	LUNotSupported            ASC = 0x2500 // LOGICAL UNIT NOT SUPPORTED
	InvalidFieldInParamList   ASC = 0x2600 // INVALID FIELD IN PARAMETER LIST
	WriteProtected            ASC = 0x2700 // WRITE PROTECTED
	SoftwareWriteProtected    ASC = 0x2702 // LOGICAL UNIT SOFTWARE WRITE PROTECTED
	SpaceAllocationFailed     ASC = 0x2707 // SPACE ALLOCATION FAILED WRITE PROTECT
	MediumMayHaveChanged      ASC = 0x2800 // NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED
	PowerOnOccurred           ASC = 0x2900 // POWER ON, RESET, OR BUS DEVICE RESET OCCURRED
	BusDeviceResetOccurred    ASC = 0x2903 // BUS DEVICE RESET FUNCTION OCCURRED
	DeviceInternalReset       ASC = 0x2904 // DEVICE INTERNAL RESET
	NexusLossOccurred         ASC = 0x2907 // I_T NEXUS LOSS OCCURRED
	ModeParametersChanged     ASC = 0x2A01 // MODE PARAMETERS CHANGED
	ReservationsPreempted     ASC = 0x2A03 // RESERVATIONS PREEMPTED
	ReservationsReleased      ASC = 0x2A04 // RESERVATIONS RELEASED
	RegistrationsPreempted    ASC = 0x2A05 // REGISTRATIONS PREEMPTED
	AccessStateChanged        ASC = 0x2A06 // ASYMMETRIC ACCESS STATE CHANGED
	CapacityDataHasChanged    ASC = 0x2A09 // CAPACITY DATA HAS CHANGED
	CommandsClearedByOther    ASC = 0x2F00 // COMMANDS CLEARED BY ANOTHER INITIATOR
	ThinSoftThreshold         ASC = 0x3807 // THIN PROVISIONING SOFT THRESHOLD REACHED
	SavingParamsNotSupported  ASC = 0x3900 // SAVING PARAMETERS NOT SUPPORTED
	MediumNotPresent          ASC = 0x3A00 // MEDIUM NOT PRESENT
	InquiryDataHasChanged     ASC = 0x3F03 // INQUIRY DATA HAS CHANGED
	ReportedLUNsChanged       ASC = 0x3F0E // REPORTED LUNS DATA HAS CHANGED
	InternalTargetFailure     ASC = 0x4400 // INTERNAL TARGET FAILURE
	InvalidMessageError       ASC = 0x4900 // INVALID MESSAGE ERROR
	DataPhaseError            ASC = 0x4B00 // DATA PHASE ERROR
	MediumRemovalPrevented    ASC = 0x5302 // MEDIUM REMOVAL PREVENTED
	InsufficientResources     ASC = 0x5503 // INSUFFICIENT RESOURCES
	NotEnoughUnsolicitedData  ASC = 0x0C0D // WRITE ERROR - NOT ENOUGH UNSOLICITED DATA
	UnexpectedUnsolicitedData ASC = 0x0C0C // WRITE ERROR - UNEXPECTED UNSOLICITED DATA
	ProtocolServiceCRCError   ASC = 0x4705 // PROTOCOL SERVICE CRC ERROR
)

// Code returns the ADDITIONAL SENSE CODE field.
func (a ASC) Code() uint8 { return uint8(a >> 8) }

// Qualifier returns the ADDITIONAL SENSE CODE QUALIFIER field.
func (a ASC) Qualifier() uint8 { return uint8(a) }

// String returns the code as the standards print it, such as "24h/00h".
func (a ASC) String() string {
	return fmt.Sprintf("%02Xh/%02Xh", a.Code(), a.Qualifier())
}
